#!/usr/bin/env bash
# Fetch OHIF, built, into .venv/viewer; npm checks that it is the one whose digest stands here.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=3.13.2
integrity=sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA==
target=.venv/viewer
[ -n "${ITERSEG_OHIF:-}" ] && exit 0  # somebody has brought one
[ -f "$target/$version" ] && exit 0
command -v npm >/dev/null || { echo "error: npm is needed to fetch OHIF (Debian: apt install npm)" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm pack --silent --pack-destination "$work" "@ohif/app@$version" >/dev/null
found=sha512-$(openssl dgst -sha512 -binary "$work"/*.tgz | base64 -w0)
[ "$found" = "$integrity" ] || { echo "error: OHIF $version is not what it was ($found)" >&2; exit 1; }
rm -rf "$target"
mkdir -p "$target"
tar -xzf "$work"/*.tgz -C "$target"
touch "$target/$version"
