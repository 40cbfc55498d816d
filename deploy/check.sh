#!/usr/bin/env bash
# Puts what is in this folder to the tools that will read it, those that need neither a cluster nor a Docker engine. It
# installs Debian's packages where one is missing. As root: it makes a mount; where it may not, it says what it did not check.
set -euo pipefail
cd "$(dirname "$0")"
go=${GO:-go}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

missing=()
for tool in promtool:prometheus prometheus:prometheus systemd-analyze:systemd git:git unshare:util-linux; do
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

echo "== the Dockerfile's steps"
# In a copy of the repository with a tag, so that it is seen whether the version is stamped.
mkdir "$work/src" "$work/out"
(cd .. && git ls-files -z --cached --others --exclude-standard | xargs -0 tar --ignore-failed-read -cf - .git) | tar -xf - -C "$work/src"
if [ -f "$work/src/.git" ]; then # a worktree: the tag would be the repository's
	rm "$work/src/.git"
	git -C "$work/src" init -q
	git -C "$work/src" add -A
	git -C "$work/src" -c user.name=check -c user.email=check@localhost commit -qm check
fi
git -C "$work/src" -c user.name=check -c user.email=check@localhost tag -f -a -m check v1.99.9 >/dev/null
steps=$("$work/check" --run .)
while IFS= read -r step; do
	(cd "$work/src" && TARGETOS=linux TARGETARCH=$($go env GOARCH) sh -ec "${step// \/out\// $work/out/}")
done <<<"$steps"
root=$work/root
mkdir -p "$root/etc/ssl/certs"
chmod 755 "$work" "$root"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" 2>/dev/null || touch "$root/etc/ssl/certs/ca-certificates.crt"
cp "$work/out/renewals" "$root/renewals"
if ldd "$root/renewals" >/dev/null 2>&1; then
	echo "the binary is not static" >&2
	exit 1
fi
# As in the container: nobody's user, a read-only root with nothing else in it.
inside=(unshare --mount sh -ec 'mount --bind "$0" "$0"; mount -o remount,ro,bind "$0"; exec chroot --userspec=65532:65532 "$0" /renewals "$@"' "$root")
if ! unshare --mount true 2>/dev/null; then
	echo "NOT CHECKED: the binary in a read-only root, since mounts are not permitted here" >&2
	inside=("$root/renewals")
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

echo "== systemd"
mkdir "$work/units"
sed "s#/usr/local/bin/renewals#$work/out/renewals#; /^\(User\|Group\)=/d" systemd/renewals.service >"$work/units/renewals.service"
systemd-analyze verify --man=no "$work/units/renewals.service"
systemd-analyze security --offline=true --threshold=15 systemd/renewals.service | tail -1

echo "== NATS, roles, dashboard"
cd ..
DEPLOY_CHECK=1 $go test -count=1 -run 'TestDeployed' ./test
$go test -count=1 ./deploy
