checkpoint discover:
    input:
        every_time,
    output:
        report(
            f"{STATE}/discover.done",
            caption="../report/discover.rst",
            category="Measurements",
            labels={"stage": "discover", "shows": "what was found"},
        ),
    log:
        "logs/discover/discover.log",
    retries: 0
    localrule: True
    conda:
        "../../environment.yml"
    message:
        "Look for new and changed measurements"
    shell:
        '"$DCORFLOW_PYTHON" -m dcorflow discover {output:q} > {log:q} 2>&1'
