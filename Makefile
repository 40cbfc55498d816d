GO ?= go

.DEFAULT_GOAL := check
.PHONY: dev test check fmt vet staticcheck tidy fuzz build help

dev: ## run everything in one process on sample jobs: broker, Klarna simulator, worker
	@$(GO) run ./cmd/renewals dev

test: ## all tests, with the race detector
	$(GO) test -race -shuffle=on ./...

check: fmt vet staticcheck tidy test ## what a change must pass

fmt:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi

vet:
	$(GO) vet ./...

staticcheck:
	$(GO) tool staticcheck ./...

tidy:
	$(GO) mod tidy -diff

build: ## one static binary, bin/renewals
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/renewals ./cmd/renewals

FUZZTIME ?= 30s
fuzz: ## fuzz every input that comes from outside, 30 s each
	$(GO) test -run '^$$' -fuzz FuzzDecodeJob -fuzztime $(FUZZTIME) ./messages

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
