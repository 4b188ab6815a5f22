#!/bin/sh
# Builds partnerface_ns/driving/engine_head/page/three.min.js from npm's three; needs npm.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
page="$here/../../partnerface_ns/driving/engine_head/page"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/entry.js" "$work"
cd "$work"
npm install --silent --no-save three@0.187.0 esbuild@0.28.2
npx esbuild entry.js --bundle --minify --format=iife --global-name=THREE --legal-comments=eof --outfile=three.min.js
cp three.min.js "$page"
cp node_modules/three/LICENSE "$page/LICENSE_three.txt"
