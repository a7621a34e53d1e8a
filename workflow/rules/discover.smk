checkpoint discover:
    output:
        f"{STATE}/discover.done",
    log:
        "logs/discover/discover.log",
    retries: 0
    localrule: True
    conda:
        "../../environment.yml"
    params:
        command=DCORFLOW,
        now=now,
    message:
        "Look for new and changed measurements"
    shell:
        "{params.command} discover {output:q} > {log:q} 2>&1"
