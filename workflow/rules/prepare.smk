rule compress:
    input:
        f"{STATE}/batches/{{batch}}.json",
    output:
        f"{STATE}/compress/{{batch}}.done",
    log:
        "logs/compress/{batch}.log",
    benchmark:
        "logs/compress/{batch}.benchmark.tsv"
    group:
        "prepare"
    conda:
        "../../environment.yml"
    threads: batch_threads
    resources:
        mem_mb=batch_memory,
        runtime=batch_runtime,
    message:
        "Compress and repack {wildcards.batch}"
    shell:
        '"$DCORFLOW_PYTHON" -m dcorflow batch compress {wildcards.batch} {threads} {resources.mem_mb} > {log:q} 2>&1'


rule check:
    input:
        f"{STATE}/compress/{{batch}}.done",
    output:
        f"{STATE}/check/{{batch}}.done",
    log:
        "logs/check/{batch}.log",
    benchmark:
        "logs/check/{batch}.benchmark.tsv"
    group:
        "prepare"
    conda:
        "../../environment.yml"
    threads: batch_threads
    resources:
        mem_mb=batch_memory,
        runtime=batch_runtime,
    message:
        "Check {wildcards.batch} against its sources"
    shell:
        '"$DCORFLOW_PYTHON" -m dcorflow batch check {wildcards.batch} {threads} {resources.mem_mb} > {log:q} 2>&1'


rule merge_metadata:
    input:
        f"{STATE}/check/{{batch}}.done",
        f"{STATE}/edits/{{batch}}.json",
    output:
        f"{STATE}/merge_metadata/{{batch}}.done",
    log:
        "logs/merge_metadata/{batch}.log",
    group:
        "prepare"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=batch_memory,
        runtime=batch_runtime,
    message:
        "Merge metadata of {wildcards.batch}"
    shell:
        '"$DCORFLOW_PYTHON" -m dcorflow batch merge_metadata {wildcards.batch} 1 {resources.mem_mb} > {log:q} 2>&1'
