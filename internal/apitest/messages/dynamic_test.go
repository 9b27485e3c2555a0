package messages_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// search is an input of SQL with optional parts and choices.
type search struct {
	Email *string
	Name  *string
	Age   int
	Sort  string
}

// dynamic are definitions of SQL with optional parts and choices, and of SQL that functions make.
func dynamic(p *page) {
	text := func(sql string) func() { return func() { pgcmd.Query[search, int]("users.list", sql) } }
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i+1)
		}
		return b.String()
	}
	p.heading("Definitions: optional parts")
	p.panics(
		text(`select 1 /*? and true */`),
		text(`select 1 /*? */`),
		text(`select 1 /*? and age = @age */`),
		text(`select 1 /*? and email = @emial */`),
		text(`select 1 /*? and email = $1 */`),
		text(`select 1 /*? and email = @email; select 2 */`),
		text(`select 1 /*? and email = @email /*? and name = @name */ */`),
		text(`select 1 /*? and email = @email`),
		text(`select 1 /*? and email like '*/' || @email */`),
		text(`select 1`+many(65, ` /*? and %d = @email */`)),
		func() { pgcmd.Query[string, int]("users.list", `select 1 /*? where @email = '' */`) },
		func() { pgcmd.Query[wide, int]("users.list", `select 1`+`/*? `+many(65, ` + @f%d`)+` */`) },
		func() {
			pgcmd.Query[search, int]("users.list", `select 1 /*? into t where @email = '' */`).With(pgcmd.Options{ReadOnly: true})
		},
	)
	p.heading("Definitions: choices")
	p.panics(
		text(`select /*= @sort a: 1 */ 2`),
		text(`select 2 /*=*/`),
		text(`select /*= @sort a: 1 */ 2 /*? + @email */ /*=*/`),
		text(`select /*= sort a: 1 */ 2 /*=*/`),
		text(`select /*= @sort */ 2 /*=*/`),
		text(`select /*= @sort a: 1; a: 2 */ 2 /*=*/`),
		text(`select /*= @sort a: 1; 2 */ 2 /*=*/`),
		text(`select /*= @sort a: ; b: 1 */ 2 /*=*/`),
		text(`select /*= @sort a: 1 /*? + @email */ */ 2 /*=*/`),
		text(`select /*= @srot a: 1 */ 2 /*=*/`),
		text(`select /*= @age a: 1 */ 2 /*=*/`),
		text(`select /*= @sort a: 1 */ 2 /*=*/ where @sort = ''`),
		text(`select /*= @sort a: 1 */ 2 /*=*/, /*= @sort b: 1 */ 2 /*=*/`),
		text(`select /*= @sort a: 1 */ 2 /*=*/, /*= @Sort b: 1 */ 2 /*=*/`),
		text(`select 1`+many(9, `, /*= @c%d a: 1 */ 2 /*=*/`)),
	)
	p.heading("Definitions: SQL made by functions")
	p.panics(func() { pgcmd.QueryFunc[none, int]("users.list", nil) })

	ctx := p.t.Context()
	pool := pgcmdtest.Pool(p.t, usersDDL)
	p.heading("Optional parts and choices")
	sorted := pgcmd.Query[search, int]("users.list", `select id from users order by /*= @sort newest: id desc; email: email */ id /*=*/`)
	hidden := pgcmd.Exec[wide]("users.wide", `explain /*? @f2 */ /*? analyze with a as (select @f1::int) */ /*= @sort x: delete from users */ select 1 from users /*=*/
		/*? @f3 */ /*? @f4 */ /*? @f5 */ /*? @f6 */ /*? @f7 */ /*? @f8 */ /*? @f9 */`).With(pgcmd.Options{ReadOnly: true})
	one := 1
	p.fails(
		sorted.Validate(search{Sort: "age"}),
		errOf(sorted.Run(ctx, pool, search{Sort: "age"})),
		errOf(sorted.With(pgcmd.Options{Trusted: true}).Run(ctx, pool, search{Sort: "age"})),
		errOf(hidden.Run(ctx, pool, wide{F1: &one, Sort: "x"})),
	)

	p.heading("SQL made by functions")
	p.fails(
		madeOf(p, pool, ``),
		madeOf(p, pool, `select 1; select 2`),
		madeOf(p, pool, `commit`),
		madeOf(p, pool, `select @email`, "ada@example.com"),
		madeOf(p, pool, `select @email`, pgx.StrictNamedArgs{}),
		madeOf(p, pool, `select id from users where email = ?`, "ada@example.com"),
		madeOf(p, pool, `select id from users`, "ada@example.com"),
		madeOf(p, pool, `select id from users where id = $1`),
		madeOf(p, pool, `select id from users where id = $1`, 1, 2),
		madeOf(p, pool, `select id from users where id = $1`, pgx.QueryExecModeExec),
		madeOf(p, pool, `select id from users where email = $1`, "\x00"),
		madeOf(p, pool, `select id from users where email = $1`, struct{}{}),
		madeOf(p, pool, `select name from users where id = 1`),
		errOf(pgcmd.ExecFunc("users.made", func(none) (string, []any, error) { return `delete from users`, nil, nil }).
			With(pgcmd.Options{ReadOnly: true}).Run(ctx, pool, none{})),
	)
	for _, err := range []error{errors.New("a value"), errClosed, pgcmd.Errorf(pgcmd.CodePermission, "the report is for managers")} {
		p.fails(errOf(pgcmd.ExecFunc("users.made", func(none) (string, []any, error) { return "", nil, err }).Run(ctx, pool, none{})))
	}
}

// madeOf is the error of SQL that a function makes.
func madeOf(p *page, db pgcmd.DB, sql string, args ...any) error {
	return errOf(pgcmd.QueryFunc[none, string]("users.made", func(none) (string, []any, error) { return sql, args, nil }).Run(p.t.Context(), db, none{}))
}

// wide has more fields that can be absent than optional parts can depend on.
type wide struct {
	F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11, F12, F13,
	F14, F15, F16, F17, F18, F19, F20, F21, F22, F23, F24, F25, F26,
	F27, F28, F29, F30, F31, F32, F33, F34, F35, F36, F37, F38, F39,
	F40, F41, F42, F43, F44, F45, F46, F47, F48, F49, F50, F51, F52,
	F53, F54, F55, F56, F57, F58, F59, F60, F61, F62, F63, F64, F65 *int
	Sort string
}
