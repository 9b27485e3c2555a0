package pgcmd_test

import (
	"context"
	"fmt"

	"github.com/pgcmd/pgcmd"
)

type Mood string

type Address struct{ Street, City string }

// A slice of an enum's values and a struct for a composite need their types on the connection.
func ExampleConfig_types() {
	server, err := exampleServer()
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	url, err := server.Database(ctx, `create type mood as enum ('happy', 'sad'); create type address as (street text, city text)`)
	if err != nil {
		panic(err)
	}
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, Types: []string{"mood", "address"}})
	if err != nil {
		panic(err)
	}
	defer pool.Close(ctx)

	type Person struct {
		Moods []Mood
		Home  Address
	}
	echo := pgcmd.QueryOne[Person, Person]("people.echo", `select @moods::mood[] as moods, @home::address as home`)
	person, err := echo.Run(ctx, pool, Person{[]Mood{"happy", "sad"}, Address{"Main Street 1", "London"}})
	fmt.Println(person.Moods, person.Home.City, err)

	_, err = pgcmd.Connect(ctx, pgcmd.Config{URL: url, Types: []string{"mode"}})
	fmt.Println(pgcmd.CodeOf(err))
	// Output:
	// [happy sad] London <nil>
	// invalid
}
