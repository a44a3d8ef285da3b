#!/usr/bin/env bash
# tests/conformance/autobahn.sh --install FOLDER: installs the Autobahn suite's fuzzing client into FOLDER, if it is not there.
# tests/conformance/autobahn.sh FOLDER URL [CASES...]: runs it against the echo server at URL (ws://HOST:PORT). Prints the cases
#   that failed and one summary line; exit status 1 if a case failed or some did not run. Cases are 1 to 7, 9 and 10 (301 in all)
#   unless others are named; AUTOBAHN_CASES says then how many have to run, AUTOBAHN_S in how many seconds (900).
#
# The suite is for Python 2.7, which Debian last had in bullseye: that release's packages are unpacked into FOLDER, from the
# mirror that this machine uses, and nothing is installed outside of it.
set -euo pipefail

die() {
    printf 'autobahn: %s\n' "$*"
    exit 1
}

# mirror: where this machine has Debian's packages from.
mirror() {
    local lists
    lists=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v '^#' || true)
    grep -oE 'https?://[^ ]+/debian/?( |$)' <<<"$lists" | head -1 | tr -d ' '
}

install_suite() {
    local home=$1 url apt log
    [ ! -x "$home/ve/bin/wstest" ] || return 0
    url=$(mirror)
    [ -n "$url" ] || die "no Debian mirror in /etc/apt"
    mkdir -p "$home/root" "$home/lists/partial" "$home/cache/archives/partial"
    home=$(realpath "$home")
    log=$home/log
    cd "$home"
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s bullseye main\n' "$url" >sources.list
    apt=(apt-get -qq -o "Dir::Etc::sourcelist=$home/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::Lists=$home/lists" -o "Dir::Cache=$home/cache")
    {
        "${apt[@]}" update &&
            "${apt[@]}" download python2.7 python2.7-minimal libpython2.7-stdlib libpython2.7-minimal libpython2.7 \
                libpython2.7-dev python2.7-dev libssl1.1 libffi7 &&
            for package in *.deb; do dpkg -x "$package" root; done &&
            python3 -m venv v3 && v3/bin/pip -q install "virtualenv==20.15.1" &&
            python2 v3/bin/virtualenv -q -p "$home/root/usr/bin/python2.7" --no-download ve &&
            python2 ve/bin/pip install -q --prefer-binary \
                "twisted==20.3.0" "autobahn==0.10.9" "autobahntestsuite==0.8.2" "txaio==2.1.0"
    } >"$log" 2>&1 || {
        tail -5 "$log"
        die "cannot be installed into $home"
    }
}

# python2 COMMAND...: runs it where the libraries and headers of FOLDER are found.
python2() {
    LD_LIBRARY_PATH="$home/root/usr/lib/$(cc -print-multiarch)" \
        CFLAGS="-I$home/root/usr/include/python2.7 -I$home/root/usr/include" "$@"
}

run_suite() {
    local url=$1 cases out
    shift
    cases=("$@")
    [ ${#cases[@]} -gt 0 ] || cases=('1.*' '2.*' '3.*' '4.*' '5.*' '6.*' '7.*' '9.*' '10.*')
    out=$(mktemp -d)
    # shellcheck disable=SC2064  # `out` is gone by then
    trap "rm -rf '$out'" EXIT
    python3 - "$url" "$out" "${cases[@]}" >"$out/spec.json" <<'PYTHON'
import json, sys
server = {"agent": "it", "url": sys.argv[1]}
print(json.dumps({"outdir": sys.argv[2] + "/report", "servers": [server], "cases": sys.argv[3:],
                  "exclude-cases": [], "exclude-agent-cases": {}}))
PYTHON
    python2 timeout "${AUTOBAHN_S:-900}" "$home/ve/bin/wstest" -m fuzzingclient -s "$out/spec.json" >"$out/log" 2>&1 || {
        tail -5 "$out/log"
        die "did not finish"
    }
    python3 - "$out/report/index.json" "${AUTOBAHN_CASES:-301}" <<'PYTHON'
import collections, json, sys
report = json.load(open(sys.argv[1])).get("it", {})
behaviour, closing = (collections.Counter(case[of] for case in report.values()) for of in ("behavior", "behaviorClose"))
failed = {name for name, case in report.items()
          if {case["behavior"], case["behaviorClose"]} & {"FAILED", "WRONG CODE", "UNCLEAN"}}
for name in sorted(failed, key=lambda name: [int(part) for part in name.split(".")]):
    print("failed", name, report[name]["behavior"], report[name]["behaviorClose"])
print("autobahn: %d cases, %d failed; %s; close %s" % (len(report), len(failed), dict(behaviour), dict(closing)))
wanted = int(sys.argv[2])
if len(report) < wanted:
    print("autobahn: only %d of %d cases ran" % (len(report), wanted))
sys.exit(1 if failed or len(report) < wanted else 0)
PYTHON
}

case ${1:-} in
    --install)
        home=$(realpath -m "${2:?a folder}")
        install_suite "$home"
        ;;
    '' | -*) die "usage: autobahn.sh --install FOLDER | FOLDER URL [CASES...]" ;;
    *)
        home=$(realpath -m "$1")
        shift
        run_suite "$@"
        ;;
esac
