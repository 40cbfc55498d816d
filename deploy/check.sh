#!/usr/bin/env bash
# Puts what is in this folder to the tools that will read it, those that need neither a cluster nor a Docker engine. It
# installs Debian's packages where one is missing. As root: it makes a mount; where it may not, it says what it did not check.
set -euo pipefail
cd "$(dirname "$0")"
go=${GO:-go}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

missing=()
for tool in promtool:prometheus prometheus:prometheus systemd-analyze:systemd git:git unshare:util-linux buildah:buildah; do
	command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
	apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

echo "== prometheus"
promtool check rules prometheus/rules.yaml
promtool check config prometheus/prometheus.yaml
promtool test rules prometheus/rules_test.yaml

echo "== kubernetes, compose, Dockerfile"
(cd check && $go vet . && $go build -o "$work/check" .)
"$work/check" .

echo "== the image"
# Built by buildah, an engine without a daemon, from a copy of the repository with a tag, so that it is seen whether the version is
# stamped. No registry is asked: what stands for golang:1.26 is this machine's /usr, Go and modules.
mkdir "$work/src" "$work/out"
(cd .. && git ls-files -z --cached --others --exclude-standard | xargs -0 tar --ignore-failed-read -cf - .git) | tar -xf - -C "$work/src"
if [ -f "$work/src/.git" ]; then # a worktree: the tag would be the repository's
	rm "$work/src/.git"
	git -C "$work/src" init -q
	git -C "$work/src" add -A
	git -C "$work/src" -c user.name=check -c user.email=check@localhost commit -qm check
fi
git -C "$work/src" -c user.name=check -c user.email=check@localhost tag -f -a -m check v1.99.9 >/dev/null
if unshare --mount true 2>/dev/null; then
	images() { buildah --root "$work/images" --runroot "$work/containers" --storage-driver vfs "$@"; }
	export BUILDAH_ISOLATION=chroot
	trap 'images umount --all >/dev/null 2>&1; rm -rf "$work"' EXIT
	base=$(images from scratch)
	root=$(images mount "$base")
	mkdir -p "$root"/{tmp,usr,go,root,proc,dev,sys,etc/ssl/certs}
	for link in bin lib lib64 sbin; do [ ! -L /$link ] || ln -s "$(readlink /$link)" "$root/$link"; done
	cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
	echo root:x:0:0:root:/root:/bin/sh >"$root/etc/passwd"
	images config --env "PATH=$($go env GOROOT)/bin:/usr/bin:/bin" --env GOPATH=/go --env GOCACHE=/go/cache --env "GOPROXY=$($go env GOPROXY)" "$base"
	images commit --quiet "$base" docker.io/library/golang:1.26 >/dev/null
	goroot=$($go env GOROOT)
	case $goroot in /usr/*) goroot= ;; esac
	images build --quiet --pull-never --volume /usr:/usr:ro ${goroot:+--volume "$goroot:$goroot:ro"} \
		--volume "$($go env GOMODCACHE):/go/pkg/mod" --volume "$($go env GOCACHE):/go/cache" \
		-f "$work/src/deploy/Dockerfile" -t renewals "$work/src" >/dev/null
	container=$(images from --pull-never localhost/renewals)
	root=$(images mount "$container")
	config=$(images inspect --format '{{.OCIv1.Config.User}} {{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.Cmd}}' "$container")
	[ "$config" = "65532:65532 [/renewals] [work]" ] || { echo "the image is to be run as $config" >&2 && exit 1; }
	(cd "$root" && find . -type f | sort) >"$work/files"
	printf './etc/ssl/certs/ca-certificates.crt\n./renewals\n' | diff - "$work/files" || { echo "the image has other files" >&2 && exit 1; }
	cp "$root/renewals" "$work/out/renewals"
	# As in a pod: nobody's user, and a root that is read-only.
	inside=(unshare --mount sh -ec 'mount --bind "$0" "$0"; mount -o remount,ro,bind "$0"; exec chroot --userspec=65532:65532 "$0" /renewals "$@"' "$root")
else
	echo "NOT CHECKED: the image, since mounts are not permitted here" >&2
	(cd "$work/src" && CGO_ENABLED=0 $go build -buildvcs=true -trimpath -ldflags='-s -w' -o "$work/out/renewals" ./cmd/renewals)
	inside=("$work/out/renewals")
fi
if ldd "$work/out/renewals" >/dev/null 2>&1; then
	echo "the binary is not static" >&2
	exit 1
fi
version=$("${inside[@]}" --version)
case $version in
v1.99.9*) echo "renewals --version: $version" ;;
*) echo "renewals --version: $version, want the tag v1.99.9" >&2 && exit 1 ;;
esac
"${inside[@]}" schema job >/dev/null
said=$work/said
NATS_URL=nats://127.0.0.1:1 KLARNA_ENDPOINT=eu-playground KLARNA_USERNAME=u KLARNA_PASSWORD=p RENEWALS_OPS_ADDR=127.0.0.1:0 \
	"${inside[@]}" work 2>"$said" &
worker=$!
for _ in $(seq 100); do
	grep -qs "no NATS server" "$said" && break
	sleep 0.1
done
grep -qs "no NATS server" "$said" || { cat "$said" >&2; exit 1; }
kill -TERM $worker
wait $worker
echo "a worker starts and ends"
if [ -n "${container:-}" ]; then
	images run "$container" -- /renewals --help >"$work/help"
	grep -q '^Usage: renewals' "$work/help"
	echo "buildah run renewals --help: $(wc -l <"$work/help") lines"
fi

echo "== systemd"
mkdir "$work/units"
sed "s#/usr/local/bin/renewals#$work/out/renewals#; /^\(User\|Group\)=/d" systemd/renewals.service >"$work/units/renewals.service"
systemd-analyze verify --man=no "$work/units/renewals.service"
systemd-analyze security --offline=true --threshold=15 systemd/renewals.service | tail -1

echo "== NATS, roles, dashboard"
cd ..
DEPLOY_CHECK=1 $go test -count=1 -run 'TestDeployed' ./test
$go test -count=1 ./deploy
