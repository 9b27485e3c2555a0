package address_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/address"
)

func TestParse(t *testing.T) {
	t.Setenv("PGSSLMODE", "")
	for text, want := range map[string]struct {
		allowed  bool // Parse is called with insecure
		verified bool // the server's certificate is verified
		insecure bool
	}{
		"postgres://db.example/x":                          {verified: true},
		"host=db.example":                                  {verified: true},
		"postgres://db.example/x?sslmode=require":          {insecure: true},
		"postgres://db.example/x?sslmode=disable":          {insecure: true},
		"postgres://db.example/x?sslmode=prefer":           {insecure: true},
		"postgres://localhost/x":                           {},
		"postgres://127.0.0.1/x":                           {},
		"host=/run/postgresql":                             {},
		"postgres://localhost,db.example/x":                {verified: true},
		"postgres://db.example/x?application_name=allowed": {allowed: true, insecure: true},
	} {
		settings, err := address.Parse(text, want.allowed)
		require.NoError(t, err, text)
		config := settings.ConnConfig.TLSConfig
		assert.Equal(t, want.verified, config != nil && !config.InsecureSkipVerify, text)
		assert.Equal(t, want.insecure, address.IsInsecure(settings), text)
	}
	t.Setenv("PGSSLMODE", "disable")
	settings, err := address.Parse("postgres://db.example/x", false)
	require.NoError(t, err)
	assert.True(t, address.IsInsecure(settings), "PGSSLMODE is set by intent")
	_, err = address.Parse("postgres://[", false)
	assert.Error(t, err)
}

func TestOf(t *testing.T) {
	t.Parallel()
	settings, err := address.Parse(address.Of("db.example", 0, `it's a \`, "ann"), false)
	require.NoError(t, err)
	cc := settings.ConnConfig
	assert.Equal(t, []any{"db.example", uint16(5432), `it's a \`, "ann"}, []any{cc.Host, cc.Port, cc.Database, cc.User})
	assert.Equal(t, []string{"a", "b"}, hosts(t, "postgres://a,b/x?sslmode=disable"))
}

func hosts(t *testing.T, text string) []string {
	t.Helper()
	settings, err := address.Parse(text, true)
	require.NoError(t, err)
	return address.Hosts(settings)
}
