// A module of its own, so that nobody who tests the example needs the inspector.
module github.com/pgcmd/pgcmd/examples/mcp/inspectortest

go 1.26.0

require github.com/stretchr/testify v1.12.1

require go.yaml.in/yaml/v3 v3.0.5 // indirect
