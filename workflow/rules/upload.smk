rule upload_dataset:
    input:
        f"{STATE}/task/{{group}}.done",
    output:
        f"{STATE}/upload/{{group}}.done",
    log:
        "logs/upload_dataset/{group}.log",
    retries: 0
    localrule: True
    conda:
        "../../environment.yml"
    params:
        settings=SETTINGS["upload"],
        turn=upload_turn,
    message:
        "Upload datasets of {wildcards.group}"
    shell:
        '"$DCORFLOW_PYTHON" -m dcorflow upload {wildcards.group} {params.turn} > {log:q} 2>&1'


rule upload:
    input:
        task_stamps,
        upload_stamps,
    localrule: True
