#!/bin/sh
# One pass over the archive: prepare what is new, take over reviewed approvals, upload.
#
#     pass.sh REPOSITORY WORK CONFIG TARGET [APPROVALS]
#
# REPOSITORY is the checkout of dcorflow (with the .venv that `make run` made), WORK the work directory
# that is kept between passes, CONFIG the configuration, TARGET `all` or `upload`, APPROVALS a file
# that `dcorflow approve --digests` made and somebody reviewed. The token, for `upload`, is in the
# environment (DCOR_API_TOKEN) or in the file that upload.token_file names.
# Exit code: that of the workflow; 75 where another pass is at work.
set -eu
repository=$1 work=$2 config=$3 target=$4 approvals=${5:-}
python=${DCORFLOW_PYTHON:-$repository/.venv/bin/python}
export PYTHONPATH="$repository"
mkdir -p "$work"
exec 9> "$work/.pass.lock"
flock --nonblock 9 || { echo "another pass is at work in $work" >&2; exit 75; }
if [ -n "$approvals" ] && [ -f "$approvals" ] && [ -f "$work/results/.state/plan.json" ]; then
    "$python" -m dcorflow -d "$work" approve --from "$approvals"
fi
"$python" -m snakemake --snakefile "$repository/Snakefile" --directory "$work" \
    --configfile "$config" --cores "${DCORFLOW_CORES:-all}" "$target" 9>&-
