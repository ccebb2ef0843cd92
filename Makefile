# Everything a contributor does, from build to demo. `make` alone explains itself.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN            := $(CURDIR)/bin
BUILD_TOOLS    := hack/build-tools.sh
BENCH_RESULTS  := bench/results.md
GO_TEST_FLAGS  ?= -race -timeout 20m
# Etcd and the API server need longer than envtest's 20 s to start on a small machine.
APISERVER_START_TIMEOUT ?= 120s
# What the demo's servers run: memory, or docker for real nodes in containers.
NODES          ?= memory
BENCH_SCALE     = go -C test/scale test -count=1 -run '^$$' -benchtime 1x -timeout 3h
# Of `make bench-fleet`: -clusters, -addon-clusters, -window, -operations, -profiles.
BENCH_FLAGS    ?=
# The image that real nodes boot, where it is not to be built.
NODE_IMAGE     ?=
DEMO_FLAGS      = --backend $(NODES) --tools-dir $(TOOLS_DIR) $(if $(NODE_IMAGE),--node-image $(NODE_IMAGE))

# Evaluated where used, since the set of tools changes with the pins in hack/tools.
TOOLS_DIR = $(shell $(BUILD_TOOLS) --dir)
# Nested modules first, so that a run ends with the root module.
MODULES   = $(shell find . -name go.mod -not -path './hack/*' -not -path './bin/*' -printf '%d %h\n' | sort -rn | cut -d' ' -f2)

.PHONY: help
help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Build

.PHONY: build
build: ## Build this project's programs into bin/
	go build -o $(BIN)/sendan ./cmd/sendan
	go build -o $(BIN)/infrastructure-manager ./cmd/infrastructure-manager
	go build -o $(BIN)/fleet-manager ./cmd/fleet-manager
	go -C cmd/openstack-simulator build -o $(BIN)/openstack-simulator .

.PHONY: tools
tools: ## Build the pinned tools into a cache outside the tree, once; about ten minutes on two cores
	@$(BUILD_TOOLS)

.PHONY: plane-tools
plane-tools:
	@$(BUILD_TOOLS) plane

.PHONY: dev-tools
dev-tools:
	@$(BUILD_TOOLS) dev

.PHONY: generate
generate: ## Generate deep copies, CRDs, RBAC and webhook configurations from the source
	@$(BUILD_TOOLS) controller-gen
	$(TOOLS_DIR)/controller-gen object paths=./api/...
	$(TOOLS_DIR)/controller-gen crd paths=./api/infrastructure/... output:crd:artifacts:config=config/infrastructure/crd/bases
	$(TOOLS_DIR)/controller-gen crd paths=./api/fleet/... output:crd:artifacts:config=config/fleet/crd/bases
	$(TOOLS_DIR)/controller-gen rbac:roleName=manager-role webhook paths=./controllers/... \
		output:rbac:artifacts:config=config/infrastructure/rbac output:webhook:artifacts:config=config/infrastructure/webhook
	$(TOOLS_DIR)/controller-gen rbac:roleName=sendan-fleet-manager webhook paths=./fleet/... \
		output:rbac:artifacts:config=config/fleet/rbac output:webhook:artifacts:config=config/fleet/webhook

.PHONY: images
images: ## Build the images that real nodes need from Go modules and Debian packages; needs Docker, and root for the first time
	@NODE_IMAGE=$(NODE_IMAGE) test/image/build.sh node openstack-simulator

# Nothing but the demo with real nodes needs images.
.PHONY: demo-images
demo-images:
	@if [[ $(NODES) == docker ]]; then NODE_IMAGE=$(NODE_IMAGE) test/image/build.sh node openstack-simulator; fi

.PHONY: release
release: ## Write what the provider and the fleet manager are installed from into _release/
	@hack/release.sh

##@ Check

.PHONY: lint
lint: dev-tools ## Check style, import laws and that generated files are up to date
	@hack/check-generated.sh
	@for module in $(MODULES); do \
		echo "golangci-lint $$module"; \
		(cd "$$module" && $(TOOLS_DIR)/golangci-lint run --config $(CURDIR)/.golangci.yml ./...); \
	done

.PHONY: test
test: export KUBEBUILDER_ASSETS = $(TOOLS_DIR)
test: export KUBEBUILDER_CONTROLPLANE_START_TIMEOUT = $(APISERVER_START_TIMEOUT)
test: plane-tools ## Run all tests; needs no cloud, no Docker, no root
	@for module in $(MODULES); do \
		echo "go -C $$module test $(GO_TEST_FLAGS) ./..."; \
		go -C "$$module" test $(GO_TEST_FLAGS) ./...; \
	done

# Of `make test-exhaustive`: how many random schedules, and the seed of the first.
SCHEDULES ?= 500
SEED      ?= 1

.PHONY: test-exhaustive
test-exhaustive: ## Strike every call of a cluster's life in every way, and play SCHEDULES random schedules from SEED on; takes most of an hour
	go test -count=1 -timeout 4h -run 'TestNoBlow|TestNoSchedule' ./controllers -exhaustive -schedules $(SCHEDULES) -seed $(SEED) -v | grep -Ev '^ *(---|===) (PASS|RUN|PAUSE|CONT|NAME)'

# Of `make conformance`: -flavor, -image, -external-network, -load-balancer-provider, -limit, -report, -sweep.
CONFORMANCE_FLAGS ?=

.PHONY: conformance
conformance: export KUBEBUILDER_ASSETS = $(TOOLS_DIR)
conformance: export KUBEBUILDER_CONTROLPLANE_START_TIMEOUT = $(APISERVER_START_TIMEOUT)
conformance: plane-tools ## Learn whether Sendan works with the cloud that OS_CLOUD names in clouds.yaml; makes and deletes servers there
	go test -count=1 -v -timeout 3h -run '^TestConformance$$' ./test/conformance -cloud='$(OS_CLOUD)' $(CONFORMANCE_FLAGS)

E2E_REPOSITORY = $(CURDIR)/_repository
E2E_ARTIFACTS  = $(CURDIR)/_artifacts

.PHONY: e2e
e2e: ## Run the end-to-end tests: a kind cluster, clusterctl, real nodes; needs Docker
	@test/image/build.sh node openstack-simulator haproxy >/dev/null
	@test/repository/build.sh --out $(E2E_REPOSITORY) --infrastructure-version v0.1.1 # to upgrade to
	@test/repository/build.sh --out $(E2E_REPOSITORY)
	go -C test/e2e test -count=1 -timeout 60m -v . -args -e2e.repository=$(E2E_REPOSITORY) -e2e.artifacts=$(E2E_ARTIFACTS) \
		-e2e.tools=$(TOOLS_DIR) -e2e.source=$(CURDIR)/test/e2e $(E2E_FLAGS)

.PHONY: bench
bench: build plane-tools ## Measure time to Ready, cloud calls and memory into bench/results.md
	@mkdir -p $(dir $(BENCH_RESULTS))
	@nodes=$$(sed -n '/^## Real nodes/,$$p' $(BENCH_RESULTS)); \
	$(BIN)/sendan bench --tools-dir $(TOOLS_DIR) --out $(BENCH_RESULTS); \
	printf '\n%s\n' "$$nodes" >>$(BENCH_RESULTS)

.PHONY: bench-fleet
bench-fleet: export KUBEBUILDER_ASSETS = $(TOOLS_DIR)
bench-fleet: export KUBEBUILDER_CONTROLPLANE_START_TIMEOUT = $(APISERVER_START_TIMEOUT)
bench-fleet: plane-tools ## Measure the fleet manager's memory, requests and admission with 1,500 clusters into bench/fleet.md; BENCH_FLAGS='-clusters 100' for less
	$(BENCH_SCALE) -bench Fleet . -results $(CURDIR)/bench/fleet.md $(BENCH_FLAGS)

# Of `make scale`: how many clusters the whole plane makes, how many of them at a time, and for the provider alone -clusters, -machines,
# -projects, -rest, -profiles.
SCALE_CLUSTERS    ?= 200
SCALE_CONCURRENCY ?= 20
SCALE_FLAGS       ?=

.PHONY: scale
scale: export KUBEBUILDER_ASSETS = $(TOOLS_DIR)
scale: export KUBEBUILDER_CONTROLPLANE_START_TIMEOUT = $(APISERVER_START_TIMEOUT)
scale: build plane-tools ## Measure the provider alone with 50,000 machines, then the whole plane with SCALE_CLUSTERS clusters, and fail above bench/budget.yaml
	$(BENCH_SCALE) -bench Provider . -results $(CURDIR)/bench/provider.md $(SCALE_FLAGS)
	$(BIN)/sendan bench --tools-dir $(TOOLS_DIR) --clusters $(SCALE_CLUSTERS) --concurrency $(SCALE_CONCURRENCY) --budget --out bench/plane.md

.PHONY: bench-nodes
bench-nodes: ## Measure time to Ready of real nodes, and of CAPD's, into bench/results.md; needs Docker
	@$(MAKE) e2e E2E_FLAGS='-ginkgo.focus="Time to Ready"'
	@sed -i '/^## Real nodes/,$$d' $(BENCH_RESULTS)
	@cat $(E2E_ARTIFACTS)/time-to-ready.md >>$(BENCH_RESULTS)

##@ Try

.PHONY: demo
demo: build plane-tools demo-images ## Start a management plane and a simulated cloud, and watch a cluster become Ready
	$(BIN)/sendan demo $(DEMO_FLAGS)

.PHONY: demo-check
demo-check: build plane-tools demo-images ## Run the demo without a terminal: a cluster's whole life, nothing left over
	$(BIN)/sendan demo --check $(DEMO_FLAGS)

.PHONY: demo-chaos
demo-chaos: build plane-tools ## Create and delete the demo's cluster while its provider is killed ten times
	$(BIN)/sendan demo --check --kill-provider 10 --tools-dir $(TOOLS_DIR)

.PHONY: clean
clean: ## Remove bin/; the tools stay in their cache
	rm -rf $(BIN)
