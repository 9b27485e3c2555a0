package reliability_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// long tells whether all is asked for, which takes minutes.
var long = os.Getenv("PGCMD_FAULTS") == "all"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
