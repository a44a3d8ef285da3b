#!/bin/sh
# Makes ../racerd/noble.js of the noble libraries (audited; they need no WebCrypto, which pages of plain http lack).
#
#     src/web/bundle/make.sh [FILE]     writes FILE, by default ../racerd/noble.js
#
# The same versions give the same bytes: package-lock.json pins them with their digests, esbuild among them, and
# tests/run compares. To take newer ones, change package.json, run `npm install --package-lock-only` here, then this.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
file=${1:-$here/../racerd/noble.js}
# Not in the source tree: what npm installs is no part of it.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/package.json" "$here/package-lock.json" "$here/entry.js" "$work"
cd "$work"
npm ci --silent --no-audit --no-fund --ignore-scripts
{
    echo "/*"
    echo "The parts of these libraries that racerd's page needs, bundled by src/web/bundle/make.sh; not to be edited."
    for name in ciphers curves hashes; do
        version=$(node -p "require('./node_modules/@noble/$name/package.json').version")
        echo
        echo "@noble/$name $version"
        echo
        cat "node_modules/@noble/$name/LICENSE"
    done
    echo "*/"
    node_modules/.bin/esbuild entry.js --bundle --format=esm --minify --target=es2022 --charset=ascii \
        --legal-comments=none --log-level=warning
} >bundled.js
cat bundled.js >"$file"
