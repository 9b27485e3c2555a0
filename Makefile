# Every target does its own set-up; a fresh machine needs Go, git and make.

# Modules of their own, so that users of the library do not depend on what they need.
MODULES = bench pgcmdotel pgcmdmcp examples/mcp examples/query

# A workspace of all modules: one go command tests them, and compiles what they share once. lint does without it, so
# that a module whose go.mod lacks something is found.
WORKSPACE = $(CURDIR)/.cache/go.work
PACKAGES = ./... $(MODULES:%=./%/...)
# Not the test of a page in a browser, which needs one (make web-test).
TESTED = $$(go list $(PACKAGES) | grep -v /browsertest$$)
# Nor the benchmarks: to compile the peers that they measure takes longer than most tests (make test-race has their tests).
SHORT = $$(go list $(filter-out ./bench/...,$(PACKAGES)))

# One PostgreSQL for all test programs.
ONE_POSTGRES = go run ./scripts/onepostgres

.PHONY: help test test-race test-long lint gofmt tour bench bench-check bench-soak fuzz nulls faults soak tenants recovery compare matrix api web-test mcp inspector

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

test: export GOWORK = $(WORKSPACE)
test: gofmt postgres workspace ## What to run before a change is sent: format, vet, the tests in their short form (of all modules but bench), the tour
	@echo "the tests of all modules but bench, in their short form, and vet:"
	@$(ONE_POSTGRES) go test -short -vet=all -timeout 20m $(SHORT)
	@echo "the tour:"
	@go run ./examples/tour

test-race: export GOWORK = $(WORKSPACE)
test-race: postgres workspace ## The tests of all modules in their long form, with -race
	@echo "the tests of all modules, with -race:"
	@$(ONE_POSTGRES) go test -race -shuffle=on -vet=off -timeout 20m $$(go list $(PACKAGES) | grep -v -e /browsertest$$ -e /catalogcost$$) # catalogcost counts allocations, which the race detector multiplies: make test

test-long: export GOWORK = $(WORKSPACE)
test-long: postgres workspace ## The tests of all modules in their long form, without -race
	@echo "the tests of all modules, in their long form:"
	@$(ONE_POSTGRES) go test -shuffle=on -vet=off -timeout 20m $(TESTED)

lint: gofmt ## Format, vet and staticcheck, in each module by itself
	@for module in . $(MODULES); do echo "vet and staticcheck in $$module"; \
		(cd $$module && go vet ./... && go tool -modfile=$(CURDIR)/tools/go.mod staticcheck ./...) || exit 1; done

gofmt:
	@echo "gofmt"
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }

tour: ## See the library at work, on a PostgreSQL that is started for it
	@scripts/ensure-postgres
	@go run ./examples/tour

bench: postgres ## Measure everything beside pgx by hand, the peers, pgbench and postgres.js: bench/REPORT.md and the figures of the documents, 15 minutes (BENCH_SHORT=1: 4, rough)
	cd bench && go run . report

bench-check: postgres ## Whether the budgets hold, 12 minutes, or BENCH_SHORT=1: those of client work, seconds
	cd bench && go run . check

bench-soak: postgres ## 10,000 operations a second for a minute, with percentiles
	cd bench && go run . soak

fuzz: postgres ## Fuzz the placeholder lexer, by itself and against PostgreSQL, optional parts of SQL, the input of a catalog and its schemas, the fingerprints of Once, what pgcmd scaffold reads and writes, a minute each
	go test -run '^$$' -fuzz '^FuzzParse$$' -fuzztime 60s ./internal/sqltext
	go test -run '^$$' -fuzz '^FuzzAgainstPostgres$$' -fuzztime 60s -parallel 1 ./internal/sqltext
	go test -run '^$$' -fuzz '^FuzzVariants$$' -fuzztime 60s ./internal/sqltext
	go test -run '^$$' -fuzz '^FuzzOptionalParts$$' -fuzztime 60s -parallel 1 ./internal/apitest/optional
	go test -run '^$$' -fuzz '^FuzzReads$$' -fuzztime 60s ./internal/sqltext
	go test -run '^$$' -fuzz '^FuzzParse$$' -fuzztime 60s ./internal/pgtree
	go test -run '^$$' -fuzz '^FuzzCatalogInput$$' -fuzztime 60s .
	cd pgcmdmcp && go test -run '^$$' -fuzz '^FuzzSchemas$$' -fuzztime 60s ./internal/schematest
	go test -run '^$$' -fuzz '^FuzzSameIffEqual$$' -fuzztime 60s ./internal/fingerprint
	go test -run '^$$' -fuzz '^FuzzParse$$' -fuzztime 60s ./internal/queryfile
	go test -run '^$$' -fuzz '^FuzzSQLLiteral$$' -fuzztime 60s ./internal/scaffold
	go test -run '^$$' -fuzz '^FuzzNameParams$$' -fuzztime 60s ./internal/scaffold

nulls: postgres ## 100,000 random queries on random data against what the analysis says of NULL (ANALYSIS_QUERIES for fewer), a quarter of an hour
	ANALYSIS_QUERIES=$${ANALYSIS_QUERIES:-100000} go test -v -count 1 -timeout 240m -run '^TestNeverNullIsNever$$' ./internal/analysis

faults: postgres ## Every fault point of every kind of work, storms and mutants: a quarter of an hour to an hour
	PGCMD_FAULTS=all go test -v -count 1 -timeout 120m -run 'Enumerate|Storm|NothingIsLeft|Mutant|EveryRow|Bank' ./internal/mutant ./internal/reliability .

soak: postgres ## 1,000,000 transactions under cuts (SOAK_OPS for fewer), about ten minutes
	SOAK_OPS=$${SOAK_OPS:-1000000} go test -v -count 1 -timeout 120m -run '^TestSoak$$' ./internal/reliability

tenants: postgres ## Two tenants in one table: 1,000,000 reads (TENANT_READS for fewer) on a pool, with Multiplex and behind PgBouncer, a few minutes
	go run ./examples/tenant -reads $${TENANT_READS:-1000000}

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

.PHONY: workspace
workspace:
	@mkdir -p .cache && rm -f $(WORKSPACE)
	@GOWORK=$(WORKSPACE) go work init . $(MODULES)

.PHONY: postgres
postgres:
	@scripts/ensure-postgres
	@scripts/ensure-pgbouncer
