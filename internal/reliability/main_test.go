package reliability_test

import (
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/pgcmd/pgcmd/internal/mutant"
)

// mutantVariable is the number of the mutant that this process is to carry: see TestMutants.
const mutantVariable = "PGCMD_MUTANT"

// long tells whether all is asked for, which takes minutes.
var long = os.Getenv("PGCMD_FAULTS") == "all"

func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv(mutantVariable)); err == nil {
		mutant.Plant(mutant.Mutant(n))
	}
	goleak.VerifyTestMain(m)
}
