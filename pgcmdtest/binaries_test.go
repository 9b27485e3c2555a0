package pgcmdtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBinariesAreFoundInOrder(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	install := func(folder string, names ...string) string {
		folder = filepath.Join(root, folder)
		require.NoError(t, os.MkdirAll(folder, 0o755))
		for _, name := range names {
			require.NoError(t, os.WriteFile(filepath.Join(folder, name), nil, 0o755))
		}
		return folder
	}
	install("lib/9.6/bin", "initdb", "postgres")
	newest := install("lib/17/bin", "initdb", "postgres")
	install("lib/18/bin", "initdb") // a client package
	install("brew/postgresql@18/bin", "initdb", "postgres")
	onPath, named, empty := install("path", "initdb", "postgres"), install("named", "initdb", "postgres"), install("empty")
	patterns := []string{filepath.Join(root, "lib/*/bin"), filepath.Join(root, "brew/postgresql*/bin")}

	for name, test := range map[string]struct {
		env      map[string]string
		patterns []string
		want     string
		wantErr  []string
	}{
		"the variable first":           {env: map[string]string{"PGCMD_TEST_POSTGRES_BIN": named, "PATH": onPath}, patterns: patterns, want: named},
		"a wrong variable is an error": {env: map[string]string{"PGCMD_TEST_POSTGRES_BIN": empty, "PATH": onPath}, patterns: patterns, wantErr: []string{"PGCMD_TEST_POSTGRES_BIN", empty}},
		"then the path":                {env: map[string]string{"PATH": empty + ":" + onPath}, patterns: patterns, want: onPath},
		"then the newest install":      {env: map[string]string{"PATH": empty}, patterns: patterns, want: newest},
		"none": {env: map[string]string{"PATH": empty}, patterns: []string{filepath.Join(root, "nowhere/*/bin")},
			wantErr: []string{empty, filepath.Join(root, "nowhere/*/bin"), "scripts/ensure-postgres", "PGCMD_TEST_POSTGRES_BIN", "PGCMD_TEST_DATABASE_URL"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := findBinaries(func(key string) string { return test.env[key] }, test.patterns)
			if test.wantErr == nil {
				require.NoError(t, err)
			}
			for _, part := range test.wantErr {
				require.ErrorContains(t, err, part)
			}
			require.Equal(t, test.want, got)
		})
	}
}
