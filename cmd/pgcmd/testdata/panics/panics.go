// Package panics has a definition that is wrong.
package panics

import "github.com/pgcmd/pgcmd"

// Find names a field that there is not.
var Find = pgcmd.QueryOne[struct{ Email string }, int64]("users.find", `select id from users where email = @emial`)
