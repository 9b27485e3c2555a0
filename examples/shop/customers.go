package main

import (
	"errors"
	"time"

	"github.com/pgcmd/pgcmd"
)

var (
	ErrEmailTaken   = errors.New("this email is registered already")
	ErrAddressTaken = errors.New("there is an address of this label already")
)

type (
	Customer struct {
		ID        int64
		Email     string
		Name      string
		Phone     *string
		CreatedAt time.Time
	}
	Register struct {
		Email string  `validate:"required,email,max=200"`
		Name  string  `validate:"required,max=100"`
		Phone *string `validate:"omitempty,e164"`
	}
	// ChangeCustomer leaves alone what is nil.
	ChangeCustomer struct {
		ID    int64   `validate:"gt=0"`
		Name  *string `validate:"omitempty,min=1,max=100"`
		Phone *string `validate:"omitempty,e164"`
	}

	// Place is the composite type address.
	Place struct {
		Line    string `validate:"required,max=200"`
		City    string `validate:"required,max=100"`
		Zip     string `validate:"required,max=12"`
		Country string `validate:"required,iso3166_1_alpha2"`
	}
	Address struct {
		ID    int64
		Label string
		Place Place
	}
	AddAddress struct {
		CustomerID int64  `validate:"gt=0"`
		Label      string `validate:"required,max=40"`
		Place      Place
	}
)

var (
	registerCustomer = pgcmd.QueryOne[Register, Customer]("customers.register",
		`insert into customers (email, name, phone) values (@email, @name, @phone)
		returning id, email, name, phone, created_at`).
		With(pgcmd.Options{OnConstraint: map[string]error{"customers_email_key": ErrEmailTaken}})

	// Nil where nobody has the email: that is an answer, not an error.
	findCustomer = pgcmd.QueryOne[string, *Customer]("customers.find",
		`select id, email, name, phone, created_at from customers where email = $1`)

	changeCustomer = pgcmd.QueryOne[ChangeCustomer, Customer]("customers.change",
		`update customers set name = coalesce(@name, name), phone = coalesce(@phone, phone) where id = @id
		returning id, email, name, phone, created_at`)

	addAddress = pgcmd.QueryOne[AddAddress, int64]("addresses.add",
		`insert into addresses (customer_id, label, place) values (@customer_id, @label, @place) returning id`).
		With(pgcmd.Options{OnConstraint: map[string]error{"addresses_label_key": ErrAddressTaken}})

	listAddresses = pgcmd.Query[int64, Address]("addresses.list",
		`select id, label, place from addresses where customer_id = $1 order by label`)
)
