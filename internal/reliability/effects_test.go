package reliability_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// theTable is what has to follow from what goes wrong, by column: R a statement on a pool that reads, by declaration or
// by its text alone, W a statement that commits by itself, T a transaction before its COMMIT was sent, C after.
//
//	Y  proven to be not applied, and tried again
//	1  the same, once
//	N  proven to be not applied, and not tried again: it would fail again, or nobody waits for it any more
//	o  the same, for the caller to decide
//	U  Unknown, and not tried again
//	A  Applied: what failed came later
//	-  cannot be
//
// That COMMIT cannot be encoded, or is cancelled by the server, cannot be: the C of the rows 6 and 12.
var theTable = map[int]string{
	1:  "N N N N", // the context was done before anything was sent
	2:  "o o o -", // the pool is exhausted
	3:  "Y Y Y -", // no connection, for now
	4:  "N N N -", // no connection, for good
	5:  "Y Y Y N", // the connection is closed at the start
	6:  "N N N -", // the input cannot be encoded
	7:  "Y U Y U", // the connection is lost after something was sent
	8:  "N U N U", // our deadline, or the caller's cancellation, half-way
	9:  "Y U Y U", // the server crashes
	10: "Y Y Y Y", // serialization failure, deadlock
	11: "Y U Y U", // the server says that it does not know
	12: "N N N -", // the server stops the statement
	13: "o o o -", // a lock
	14: "o o o -", // resources
	15: "Y Y Y Y", // read-only
	16: "1 1 1 -", // a prepared statement
	17: "- - N -", // in a transaction that has failed
	18: "- - - N", // COMMIT answered by ROLLBACK
	19: "N N N N", // constraints, values, bad SQL
	20: "Y U Y U", // FATAL
	21: "Y U Y U", // class 08, of a pooler
	// 22, the warning that a commit is not on the standby yet, is absent: the library does not report it.
	23: "N U N U", // internal errors
	24: "N A N -", // the body, a hook, a scan
}

func TestEveryRowOfTheTable(t *testing.T) {
	t.Parallel()
	database := pgcmdtest.URL(t, effectsDDL)
	t.Cleanup(func() {
		assert.Greater(t, effectsUntold.Load(), int64(40), "reads by their text alone")
		t.Log("reads by their text alone:", effectsUntold.Load())
	})
	covered := map[int]map[byte][]string{}
	for _, k := range slices.Concat(unsentConditions(t, database), wireConditions(), serverConditions(), pooledConditions(), bodyConditions()) {
		for _, c := range k.columns {
			if covered[k.row] == nil {
				covered[k.row] = map[byte][]string{}
			}
			covered[k.row][c[0]] = append(covered[k.row][c[0]], k.how)
		}
		t.Run(fmt.Sprintf("%d %s", k.row, k.how), func(t *testing.T) {
			t.Parallel()
			entries := theTable[k.row]
			if k.entries != "" {
				entries = k.entries
			}
			s := newStage(t, database, k.set)
			for i, c := range k.columns {
				k.column(s, c, entries, i)
			}
		})
	}
	for row, entries := range theTable {
		for i, entry := range strings.Fields(entries) {
			if entry != "-" {
				assert.NotEmpty(t, covered[row]["RWTC"[i]], "row %d, column %c is not provoked", row, "RWTC"[i])
			}
		}
	}
	if f := flag.Lookup("test.v"); f != nil && f.Value.String() == "true" {
		for row := 1; row <= 24; row++ {
			for _, c := range []byte("RWTC") {
				if how := covered[row][c]; len(how) > 0 {
					t.Logf("row %d, %c: %s", row, c, strings.Join(slices.Compact(how), "; "))
				}
			}
		}
	}
}
