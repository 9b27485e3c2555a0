package pgcmdtest

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

const binariesVariable = "PGCMD_TEST_POSTGRES_BIN"

// installs are the usual places, as patterns for [filepath.Glob].
func installs() []string {
	return []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
	}
}

// findBinaries returns the folder that holds initdb and postgres: the one that the variable names,
// else the first on the PATH, else the newest that matches the first pattern with a match.
func findBinaries(getenv func(string) string, patterns []string) (string, error) {
	if folder := getenv(binariesVariable); folder != "" {
		if !holdsServer(folder) {
			return "", fmt.Errorf("%s is %q, which holds no executable initdb and postgres", binariesVariable, folder)
		}
		return filepath.Abs(folder)
	}
	for _, folder := range filepath.SplitList(getenv("PATH")) {
		if filepath.IsAbs(folder) && holdsServer(folder) {
			return folder, nil
		}
	}
	for _, pattern := range patterns {
		folders, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		slices.SortFunc(folders, func(a, b string) int { return cmp.Compare(major(b), major(a)) })
		for _, folder := range folders {
			if holdsServer(folder) {
				return folder, nil
			}
		}
	}
	return "", fmt.Errorf("no PostgreSQL found (initdb and postgres) in the folder %s names (it is not set), the PATH %q, or %s: "+
		"run scripts/ensure-postgres, set %s to the folder that holds them, or set %s to use a server that runs",
		binariesVariable, getenv("PATH"), strings.Join(patterns, ", "), binariesVariable, serverVariable)
}

func holdsServer(folder string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(folder, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// major returns the first number in the name above bin, as in 17, pgsql-17 or postgresql@17; 0 without one.
func major(bin string) int {
	numbers := strings.FieldsFunc(filepath.Base(filepath.Dir(bin)), func(r rune) bool { return !unicode.IsDigit(r) })
	if len(numbers) == 0 {
		return 0
	}
	number, _ := strconv.Atoi(numbers[0])
	return number
}
