package main

import (
	"context"
	"database/sql"
	"time"

	"github.com/Masterminds/squirrel"
	"github.com/doug-martin/goqu/v9"
	_ "github.com/doug-martin/goqu/v9/dialect/postgres"
	"github.com/stephenafamo/bob"
	"github.com/stephenafamo/bob/dialect/psql"
	"github.com/stephenafamo/bob/dialect/psql/dialect"
	"github.com/stephenafamo/bob/dialect/psql/sm"

	"github.com/pgcmd/pgcmd"
)

const schema = `
	create table users (id bigint generated always as identity primary key, email text not null, city text, joined date not null);
	insert into users (email, city, joined) values
		('ada@example.com', 'London', '2020-01-01'), ('bob@example.com', null, '2021-06-01'),
		('eve@example.org', 'Paris', '2019-03-01'), ('dan@example.org', 'London', '2022-12-01')`

// ListUsers is a search: what is not set does not matter.
type ListUsers struct {
	Email *string
	City  sql.Null[string]
	Since *time.Time
	IDs   []int64
	Sort  string // newest, email, or empty for the order of the ids
	Limit int    `validate:"gte=1,lte=100"`
}

type User struct {
	ID    int64
	Email string
	City  *string
}

// optional has the SQL in one text. Verify checks every variant of it against the schema.
var optional = pgcmd.Query[ListUsers, User]("users.list", `
	select id, email, city from users
	where true
	/*? and email like @email */
	/*? and city = @city */
	/*? and joined >= @since */
	/*? and id = any (@ids) */
	order by /*= @sort newest: joined desc; email: email */ id /*=*/
	limit @limit`)

var bySquirrel = pgcmd.QueryFunc[ListUsers, User]("users.squirrel", func(in ListUsers) (string, []any, error) {
	q := squirrel.Select("id", "email", "city").From("users").PlaceholderFormat(squirrel.Dollar)
	if in.Email != nil {
		q = q.Where(squirrel.Like{"email": *in.Email})
	}
	if in.City.Valid {
		q = q.Where(squirrel.Eq{"city": in.City.V})
	}
	if in.Since != nil {
		q = q.Where(squirrel.GtOrEq{"joined": *in.Since})
	}
	if in.IDs != nil {
		q = q.Where("id = any (?)", in.IDs)
	}
	switch in.Sort {
	case "newest":
		q = q.OrderBy("joined desc")
	case "email":
		q = q.OrderBy("email")
	default:
		q = q.OrderBy("id")
	}
	return q.Suffix("limit ?", in.Limit).ToSql()
})

var byGoqu = pgcmd.QueryFunc[ListUsers, User]("users.goqu", func(in ListUsers) (string, []any, error) {
	q := goqu.Dialect("postgres").From("users").Select("id", "email", "city").Prepared(true)
	if in.Email != nil {
		q = q.Where(goqu.C("email").Like(*in.Email))
	}
	if in.City.Valid {
		q = q.Where(goqu.C("city").Eq(in.City.V))
	}
	if in.Since != nil {
		q = q.Where(goqu.C("joined").Gte(*in.Since))
	}
	if in.IDs != nil {
		q = q.Where(goqu.C("id").In(in.IDs)) // a placeholder for each, so that each length is a statement
	}
	switch in.Sort {
	case "newest":
		q = q.Order(goqu.C("joined").Desc())
	case "email":
		q = q.Order(goqu.C("email").Asc())
	default:
		q = q.Order(goqu.C("id").Asc())
	}
	return q.Limit(uint(in.Limit)).ToSQL()
})

var byBob = pgcmd.QueryFunc[ListUsers, User]("users.bob", func(in ListUsers) (string, []any, error) {
	mods := []bob.Mod[*dialect.SelectQuery]{sm.Columns("id", "email", "city"), sm.From("users"), sm.Limit(psql.Arg(in.Limit))}
	if in.Email != nil {
		mods = append(mods, sm.Where(psql.Quote("email").Like(psql.Arg(*in.Email))))
	}
	if in.City.Valid {
		mods = append(mods, sm.Where(psql.Quote("city").EQ(psql.Arg(in.City.V))))
	}
	if in.Since != nil {
		mods = append(mods, sm.Where(psql.Quote("joined").GTE(psql.Arg(*in.Since))))
	}
	if in.IDs != nil {
		mods = append(mods, sm.Where(psql.Raw("id = any (?)", in.IDs)))
	}
	switch in.Sort {
	case "newest":
		mods = append(mods, sm.OrderBy("joined").Desc())
	case "email":
		mods = append(mods, sm.OrderBy("email"))
	default:
		mods = append(mods, sm.OrderBy("id"))
	}
	return psql.Select(mods...).Build(context.Background())
})

var commands = []*pgcmd.Command[ListUsers, []User]{optional, bySquirrel, byGoqu, byBob}
