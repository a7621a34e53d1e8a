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
    params:
        command=DCORFLOW,
    message:
        "Write tasks of {wildcards.group}"
    shell:
        "{params.command} task {wildcards.group} > {log:q} 2>&1"
