rule task:
    input:
        f"{STATE}/groups/{{group}}.json",
        merged_batches,
    output:
        report(
            f"{STATE}/task/{{group}}.done",
            caption="../report/task.rst",
            category="Datasets",
            labels={"stage": "task", "group": "{group}"},
        ),
    log:
        "logs/task/{group}.log",
    localrule: True
    conda:
        "../../environment.yml"
    message:
        "Write tasks of {wildcards.group}"
    shell:
        '"$DCORFLOW_PYTHON" -m dcorflow task {wildcards.group} > {log:q} 2>&1'
