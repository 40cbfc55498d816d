GO ?= go

.DEFAULT_GOAL := check
.PHONY: dev test check fmt vet staticcheck tidy fuzz model long chaos bench bench-memory bench-accounts bench-growth bench-books bench-reconcile deploy-check asyncapi schemas clients build help

dev: ## run everything in one process on sample jobs: broker, Klarna simulator, worker
	@echo 'building, which the first time takes a minute or two' >&2; $(GO) run ./cmd/renewals dev

test: ## all tests, with the race detector; those of the model, which have no goroutines, without it
	$(GO) test -race -shuffle=on -parallel 4 -timeout 20m ./...
	$(GO) test -shuffle=on -parallel 4 -run '^TestModel' ./worker/journal

check: fmt vet staticcheck tidy test ## what a change must pass

fmt:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi

vet:
	$(GO) vet ./...

staticcheck:
	$(GO) tool staticcheck ./...

tidy:
	$(GO) mod tidy -diff

build: ## two static binaries, bin/renewals and bin/renewals-desk
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/ ./cmd/renewals ./cmd/renewals-desk

FUZZTIME ?= 30s
fuzz: ## fuzz every input that comes from outside, 30 s each
	$(GO) test -run '^$$' -fuzz '^FuzzRead$$' -fuzztime $(FUZZTIME) ./messages
	$(GO) test -run '^$$' -fuzz '^FuzzReadCapture$$' -fuzztime $(FUZZTIME) ./messages
	$(GO) test -run '^$$' -fuzz '^FuzzModes$$' -fuzztime $(FUZZTIME) ./messages
	$(GO) test -run '^$$' -fuzz '^FuzzDecodeJob$$' -fuzztime $(FUZZTIME) ./messages
	$(GO) test -run '^$$' -fuzz '^FuzzDecodeEvent$$' -fuzztime $(FUZZTIME) ./messages
	$(GO) test -run '^$$' -fuzz '^FuzzAnswer$$' -fuzztime $(FUZZTIME) ./klarna
	$(GO) test -run '^$$' -fuzz '^FuzzReadCSV$$' -fuzztime $(FUZZTIME) ./klarna/settlements
	$(GO) test -run '^$$' -fuzz '^FuzzParseState$$' -fuzztime $(FUZZTIME) ./worker/journal
	$(GO) test -run '^$$' -fuzz '^FuzzOrder$$' -fuzztime $(FUZZTIME) ./klarna/klarnasim

model: ## search every state of the model's small worlds; at most 10 minutes
	$(GO) test -count=1 -timeout 20m -run '^TestModel' ./worker/journal -model.whole

long: ## tests that a change should not wait for: every case of the simulator, dev at speed, the defaults in real time, a cluster's leader killed, settlements that lie, six hundred accounts, rates kept and pauses noticed in time, more random books; 5 minutes
	LONG=1 $(GO) test -count=1 -timeout 15m -run '^(TestEveryCaseEndsAsListed|TestDevAtSpeed|TestLeaderKilledInABatch|TestReconcileNamesExactlyTheLies|TestManyAccounts|TestDefaultsOutlastASlowKlarna)$$' ./cmd/renewals ./test ./worker
	LONG=1 $(GO) test -count=1 -timeout 10m -parallel 2 -run '^(TestThreeWorkersShareTheRate|TestOneFailingAccountSlowsNobody|TestPasswordChangedUnderLoad|TestStopDuringSlowCharges|TestRollingRestarts)$$' ./test
	$(GO) test -count=1 -timeout 5m ./worker/desk/books -rapid.checks=100

CHAOS ?= 100s
chaos: ## kill, freeze and cut everything for minutes, then compare books and journal; at most 8 minutes
	CHAOS=$(CHAOS) $(GO) test -count=1 -timeout 15m -run '^TestChaos|^TestClusterIsNoSetBack' -v ./test

bench: ## the worker beside a bare loop: ratios, medians of 15 rounds, at most 100 minutes; BENCH=quick for a minute's worth
	@$(GO) build -o bin/bench ./test/bench && exec bin/bench

bench-memory: ## the worker's memory while it drains a million jobs, with a plot; at most 15 minutes
	@BENCH=memory $(MAKE) --no-print-directory bench

bench-accounts: ## a thousand accounts in one worker; two minutes; BENCH=quick for a hundred
	@$(GO) build -o bin/bench ./test/bench && exec bin/bench accounts

bench-growth: ## every read command beside claims on a million renewals; 15 minutes, 8 GB; BENCH=quick for a tenth, BENCH_BUSY=1 beside busy loops
	@$(GO) build -o bin/bench ./test/bench && exec bin/bench growth

bench-books: ## two million records into the books, then find; at most 20 minutes, 6 GB; BOOKS_RENEWALS=50000 for a minute's worth
	$(GO) test -run '^$$' -bench '^BenchmarkSync$$' -benchtime 1x -timeout 20m ./worker/desk/books

bench-reconcile: ## a million renewals against a payout of 100,000 rows, as a file and by the API; at most 40 minutes, 3 GB; RECONCILE_RENEWALS=50000 for a minute's worth
	@$(GO) build -o bin/bench ./test/bench && exec bin/bench reconcile

deploy-check: ## put deploy/ to the tools that will read it; as root, installs Debian's packages that are missing
	GO='$(GO)' bash deploy/check.sh

asyncapi: ## check messages/asyncapi.yaml with AsyncAPI's own tool; needs node, leaves nothing in the checkout
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && cp -r messages/asyncapi.yaml messages/schemas "$$dir" && cd "$$dir" && \
	npx --yes @asyncapi/cli@4.1.1 validate asyncapi.yaml --fail-severity=warn

schemas: ## try the contract in ajv, TypeScript, Java, AsyncAPI's page and CloudEvents' SDK; needs node and npm's registry, leaves nothing in the checkout
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && cp -r messages/asyncapi.yaml messages/schemas messages/testdata/break-ids.json test/schemas/*.mjs "$$dir" && ( cd "$$dir" && echo '{"private":true}' >package.json && \
	npm install --silent --no-audit --no-fund ajv@8.20.0 ajv-formats@3.0.1 json-schema-to-typescript@15.0.4 typescript@5.9.3 quicktype@23.3.25 \
		cloudevents@10.0.0 @asyncapi/parser@3.6.6 @asyncapi/react-component@3.2.1 react@18.3.1 react-dom@18.3.1 && \
	timeout 10 node breaks.mjs break-ids.json && timeout 300 node check.mjs schemas && timeout 120 node page.mjs asyncapi.yaml && timeout 60 node events.mjs schemas >events.jsonl ) && \
	$(GO) run ./test/schemas <"$$dir/events.jsonl"

clients: ## try every role, what messages/README.md shows, and watch --forward-to, with the official clients for JavaScript and Python and CloudEvents' SDK; needs node and npm's registry, at most 5 minutes
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && ( cd "$$dir" && echo '{"private":true}' >package.json && \
	npm install --silent --no-audit --no-fund @nats-io/transport-node@3.4.0 @nats-io/jetstream@3.4.0 @nats-io/kv@3.4.0 nats@2.29.3 cloudevents@10.0.0 && \
	{ python3 -c 'import nats.js, nkeys' 2>/dev/null || timeout 60 python3 -m pip install --quiet --retries 0 --target python 'nats-py[nkeys]==2.15.0' || true; } ) && \
	PYTHONPATH="$$dir/python:$$PYTHONPATH" CLIENTS="$$dir" $(GO) test -count=1 -timeout 5m -run '^TestClients' -v ./test

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
