package main

import (
	"context"
	"errors"
	"time"

	"github.com/pgcmd/pgcmd"
)

const schema = `
	create table users (
		id    bigint generated always as identity primary key,
		email text not null constraint users_email_key unique,
		age   int not null);
	create table orders (
		id      bigint generated always as identity primary key,
		user_id bigint not null references users,
		cents   int not null)`

type (
	CreateUser struct {
		Email string `json:"email" validate:"required,email,max=200"`
		Age   int    `json:"age" validate:"gte=18,lte=150"`
	}
	FindUser struct {
		Email string `json:"email" validate:"required,email"`
	}
	User struct {
		ID    int64  `json:"id"`
		Email string `json:"email"`
		Age   int    `json:"age"`
	}
	PlaceOrder struct {
		Key   string `json:"-" validate:"required,max=100"` // of the header Idempotency-Key
		Email string `json:"email" validate:"required,email"`
		Cents int    `json:"cents" validate:"gt=0,lte=1000000"`
	}
	Order struct {
		ID    int64 `json:"id"`
		Cents int   `json:"cents"`
	}
)

var ErrEmailTaken = errors.New("email is already registered")

var (
	createUser = pgcmd.QueryOne[CreateUser, User]("users.create",
		`insert into users (email, age) values (@email, @age) returning id, email, age`).
		With(pgcmd.Options{Timeout: 2 * time.Second, OnConstraint: map[string]error{"users_email_key": ErrEmailTaken}})

	findUser = pgcmd.QueryOne[FindUser, User]("users.find", `select id, email, age from users where email = @email`).
			With(pgcmd.Options{Timeout: 2 * time.Second, Retry: pgcmd.Retry{Attempts: 3}})

	insertOrder = pgcmd.QueryOne[PlaceOrder, Order]("orders.insert",
		`insert into orders (user_id, cents) select id, @cents from users where email = @email returning id, cents`)

	// A client that got no answer asks again with the same key, and has one order.
	placeOrder = pgcmd.Once(pgcmd.Transaction("orders.place", func(ctx context.Context, tx *pgcmd.Tx, in PlaceOrder) (Order, error) {
		return insertOrder.Run(ctx, tx, in)
	}), func(in PlaceOrder) string { return in.Key }).
		With(pgcmd.Options{Timeout: 2 * time.Second, Retry: pgcmd.Retry{Attempts: 3}})
)
