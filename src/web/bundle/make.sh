#!/bin/sh
# Makes the two bundles: noble.js from the noble libraries (audited; they need no WebCrypto, which pages served over plain http
# lack), and racerd.mjs from racerd.js and all that it imports, for programs that want one file (Node).
#
#     src/web/bundle/make.sh [FOLDER]     writes both into FOLDER; by default to where they are served from
#
# The same sources and versions give the same bytes: package-lock.json pins the versions, esbuild's too, with their digests, and
# tests/run compares. Run this after a change to racerd.js or a file that it imports. To update the libraries, change
# package.json, run `npm install --package-lock-only` here, then this.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
noble=${1:-$here/../racerd}/noble.js
whole=${1:-$here/..}/racerd.mjs
# Outside the source tree, because npm installs packages here.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/package.json" "$here/package-lock.json" "$here/entry.js" "$work"
cp -R "$here/../racerd.js" "$here/../racerd" "$work"
cd "$work"
npm ci --silent --no-audit --no-fund --ignore-scripts
licences() {
    for name in ciphers curves hashes; do
        version=$(node -p "require('./node_modules/@noble/$name/package.json').version")
        echo
        echo "@noble/$name $version"
        echo
        cat "node_modules/@noble/$name/LICENSE"
    done
    echo "*/"
}
bundle() {
    node_modules/.bin/esbuild "$1" --bundle --format=esm --target=es2022 --charset=ascii --legal-comments=none \
        --log-level=warning "$2"
}
{
    echo "/*"
    echo "The parts of these libraries that racerd's page needs, bundled by src/web/bundle/make.sh; not to be edited."
    licences
    bundle entry.js --minify
} >bundled.js
cp bundled.js racerd/noble.js
{
    echo "/*"
    echo "racerd's client library in one file, made of racerd.js by src/web/bundle/make.sh; not to be edited. In it are parts of"
    licences
    bundle racerd.js --minify-whitespace
} >racerd.mjs
cat bundled.js >"$noble"
cat racerd.mjs >"$whole"
