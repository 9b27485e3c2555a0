// Command wrong has commands that do not fit the schema of the tests, and some that do.
package main

import "github.com/pgcmd/pgcmd"

type person struct {
	ID   int64
	Nick string
}

var getPerson = pgcmd.QueryOne[int64, person]("people.get", `select id, nick from people where id = $1`)

var (
	countPeople = pgcmd.QueryOne[struct{}, int64]("people.count", `select count(*) from people`)
	several     = []pgcmd.Definition{
		pgcmd.Exec[int64]("people.delete", `delete from people where id = $1`),
		pgcmd.Exec[int64]("people.drop", `delete from persons where id = $1`),
	}
	forgotten *pgcmd.Command[int64, int64]
)

// A list of commands, and a command with other options, are no second commands.
var (
	all         = []pgcmd.Definition{getPerson, countPeople}
	countSlowly = countPeople.With(pgcmd.Options{ReadOnly: true})
)

// Their names are those that a test uses, or Go itself.
var (
	add = pgcmd.Exec[int64]("people.add", `insert into people (email, "fullName") values ('a@example.com', $1::int8::text)`)
	nil = pgcmd.Exec[struct{}]("people.nothing", `delete from people where false`)
)

// Their names are those of what the test imports.
var context, json, testing, pgxpool, os = 1, 2, 3, 4, 5

func main() {}

// A finding about one variant of its SQL has its place too.
var searchPeople = pgcmd.Query[struct{ Email *string }, int64]("people.search",
	`select id from people where true /*? and mail = @email */`)
