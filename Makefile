# Every target does its own set-up; a fresh machine needs Go, git and make.

# Modules of their own, so that users of the library do not depend on what they need.
MODULES = bench pgcmdotel pgcmdmcp examples/mcp

.PHONY: help test tour bench bench-check bench-soak fuzz faults soak recovery compare matrix api web-test mcp inspector

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

test: postgres ## Everything that CI runs: format, vet, staticcheck, tests with -race, the tour
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	go vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...
	go test -race -shuffle=on -timeout 20m $$(go list ./... | grep -v /catalogcost$$)
	go test -shuffle=on ./internal/apitest/catalogcost # it has one goroutine, and counts allocations, which the race detector multiplies
	@for module in $(MODULES); do echo "in $$module: vet, staticcheck, test"; \
		(cd $$module && go vet ./... && go tool -modfile=$(CURDIR)/tools/go.mod staticcheck ./... && go test -race -shuffle=on -timeout 20m $$(go list ./... | grep -v /browsertest$$)) || exit 1; done
	go run ./examples/tour

tour: postgres ## See the library at work, on a PostgreSQL that is started for it
	@go run ./examples/tour

bench: postgres ## Measure everything beside pgx by hand, the peers and pgbench: bench/REPORT.md and the README's figures, 12 minutes (BENCH_SHORT=1: 3, rough)
	cd bench && go run . report

bench-check: postgres ## Whether the budgets hold, 7 minutes, or BENCH_SHORT=1: those of client work, seconds
	cd bench && go run . check

bench-soak: postgres ## 10,000 operations a second for a minute, with percentiles
	cd bench && go run . soak

fuzz: postgres ## Fuzz the placeholder lexer, by itself and against PostgreSQL, the input of a catalog and its schemas, the fingerprints of Once, a minute each
	go test -run '^$$' -fuzz '^FuzzParse$$' -fuzztime 60s ./internal/sqltext
	go test -run '^$$' -fuzz '^FuzzAgainstPostgres$$' -fuzztime 60s -parallel 1 ./internal/sqltext
	go test -run '^$$' -fuzz '^FuzzTables$$' -fuzztime 60s ./internal/sqltext
	go test -run '^$$' -fuzz '^FuzzCatalogInput$$' -fuzztime 60s .
	cd pgcmdmcp && go test -run '^$$' -fuzz '^FuzzSchemas$$' -fuzztime 60s ./internal/schematest
	go test -run '^$$' -fuzz '^FuzzSameIffEqual$$' -fuzztime 60s ./internal/fingerprint

faults: postgres ## Every fault point of every kind of work, storms and mutants: twenty minutes
	PGCMD_FAULTS=all go test -v -count 1 -timeout 60m -run 'Enumerate|Storm|NothingIsLeft|Mutant|EveryRow|Bank' ./internal/mutant ./internal/reliability .

soak: postgres ## 1,000,000 transactions under cuts (SOAK_OPS for fewer), about ten minutes
	SOAK_OPS=$${SOAK_OPS:-1000000} go test -v -count 1 -timeout 120m -run '^TestSoak$$' ./internal/reliability

recovery: postgres ## How soon the pool works again after its server did not, beside a pgxpool: five minutes, or RECOVERY_SHORT=1
	cd bench && BENCH_SHORT=$(RECOVERY_SHORT) go run . recovery

compare: postgres ## The same faults on pgx by hand, its helpers, database/sql and pgcmd, two minutes
	cd bench && go run . compare

web-test: postgres ## The page of pgcmdweb in a headless Chromium, half a minute (PGCMD_TEST_SHOTS=folder for pictures)
	@scripts/ensure-chromium
	cd bench && go test -count 1 ./browsertest

mcp: postgres ## A bank for models by HTTP, on a PostgreSQL that is started for it, until Ctrl-C
	@cd examples/mcp && go run . -http 127.0.0.1:0

inspector: postgres ## The MCP inspector's command line talks to examples/mcp: two minutes, and one more to install it
	@scripts/ensure-inspector >/dev/null
	cd examples/mcp && go test -count 1 ./inspectortest -inspector

matrix: ## Run the tests on PostgreSQL 14 to 18
	scripts/matrix

api: ## Write api.txt, the exported API that the tests compare with
	go test -run TestTheExportedAPI -update-api .

.PHONY: postgres
postgres:
	@scripts/ensure-postgres
	@scripts/ensure-pgbouncer
