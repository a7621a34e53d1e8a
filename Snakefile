"""dcorflow: from raw RT-DC measurements to published DCOR datasets."""

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")

sys.path.insert(0, workflow.basedir)

if not workflow.overwrite_configfiles:
    if not Path("config/config.yaml").is_file():
        sys.exit("dcorflow: no config/config.yaml in this directory; give one with --configfile FILE")

    configfile: "config/config.yaml"


for stage in ("common", "discover", "prepare", "task", "upload"):

    include: f"workflow/rules/{stage}.smk"


rule all:
    default_target: True
    input:
        task_stamps,
    localrule: True


onstart:
    start_run(SETTINGS)


onsuccess:
    end_run(succeeded=True)


onerror:
    end_run(succeeded=False)
