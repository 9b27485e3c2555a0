package pgcmd_test

import (
	"context"
	"errors"
	"testing"

	"github.com/go-playground/validator/v10"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

type signup struct {
	Email    string `validate:"required,email"`
	Age      int    `validate:"gte=18,lte=150"`
	Password string `validate:"min=8" secret:"true"`
	Items    []item `validate:"dive"`
	Home     *address
}

type item struct {
	Qty int `validate:"gt=0"`
}

type address struct {
	Zip string `validate:"required"`
}

func accept[In any](name string) *pgcmd.Command[In, int] {
	return pgcmd.New(name, func(context.Context, pgcmd.DB, In) (int, error) { return 1, nil })
}

func TestEveryProblemIsCollectedWithItsPath(t *testing.T) {
	t.Parallel()
	cmd := accept[signup]("users.signup")
	in := signup{Email: "ada", Age: 7, Password: "hunter2", Items: []item{{1}, {1}, {0}}, Home: &address{}}
	err := cmd.Validate(in)
	e := failure(t, err)
	assert.Equal(t, []pgcmd.Problem{
		{Field: "Email", Rule: "email", Message: "Email must be a valid email address"},
		{Field: "Age", Rule: "gte", Message: "Age must be 18 or greater"},
		{Field: "Password", Rule: "min", Message: "Password must be at least 8 characters in length"},
		{Field: "Items[2].Qty", Rule: "gt", Message: "Qty must be greater than 0"},
		{Field: "Home.Zip", Rule: "required", Message: "Zip is a required field"},
	}, e.Problems)
	assert.Equal(t, pgcmd.CodeInvalid, e.Code)
	assert.Equal(t, pgcmd.NotApplied, e.Effect)
	assert.Zero(t, e.Attempts)
	assert.Equal(t, "pgcmd: users.signup: the input was refused for 5 reasons: Email must be a valid email address; "+
		"Age must be 18 or greater; Password must be at least 8 characters in length; Items[2].Qty must be greater than 0; "+
		"Home.Zip is a required field [invalid, not applied]", err.Error())
	var fields validator.ValidationErrors
	assert.ErrorAs(t, err, &fields)

	_, run := cmd.Run(t.Context(), unusedDB{}, in)
	assert.Equal(t, err.Error(), run.Error())
	_, trusted := cmd.With(pgcmd.Options{Trusted: true}).Run(t.Context(), unusedDB{}, in)
	assert.NoError(t, trusted)
	require.NoError(t, cmd.Validate(signup{Email: "ada@example.com", Age: 36, Password: "long enough"}))
	assert.NoError(t, accept[byEmail]("x").Validate(byEmail{}), "nothing to check")
}

type move struct {
	From, To string `validate:"required"`
	PIN      string `secret:"true"`
}

var errSame = errors.New("from and to are the same account")

func (m move) Validate() error {
	var problems []error
	if m.From == m.To {
		problems = append(problems, errSame)
	}
	if m.PIN == "1234567" {
		problems = append(problems, errors.New("the PIN "+m.PIN+" is too simple"))
	}
	return errors.Join(problems...)
}

type even int

func (n *even) Validate() error {
	if *n%2 != 0 {
		return pgcmd.Errorf(pgcmd.CodeInvalid, "the number is odd")
	}
	return nil
}

func TestTheInputsOwnValidateComesAfterTheTags(t *testing.T) {
	t.Parallel()
	err := accept[move]("bank.move").Validate(move{PIN: "1234567"})
	e := failure(t, err)
	assert.Equal(t, []pgcmd.Problem{
		{Field: "From", Rule: "required", Message: "From is a required field"},
		{Field: "To", Rule: "required", Message: "To is a required field"},
		{Rule: "validate", Message: "from and to are the same account"},
		{Rule: "validate", Message: "the PIN [secret] is too simple"},
	}, e.Problems)
	assert.ErrorIs(t, err, errSame)
	assert.NoError(t, accept[move]("bank.move").Validate(move{From: "a", To: "b"}))

	_, err = accept[even]("x").Run(t.Context(), unusedDB{}, 3)
	assert.EqualError(t, err, "pgcmd: x: the input was refused: the number is odd [invalid, not applied]")
	_, err = accept[even]("x").Run(t.Context(), unusedDB{}, 4)
	assert.NoError(t, err)
}

func TestInputsThatAreNotStructs(t *testing.T) {
	t.Parallel()
	assert.NoError(t, refusalOf(t, &signup{Email: "ada@example.com", Age: 36, Password: "long enough"}))
	assert.Contains(t, refusalOf(t, &signup{}).Error(), "Email is a required field")
	assert.Contains(t, refusalOf[*signup](t, nil).Error(), "the input is a nil *pgcmd_test.signup")
	assert.Contains(t, refusalOf(t, []item{{1}, {0}}).Error(), "[1].Qty must be greater than 0")
	assert.Contains(t, refusalOf(t, map[string]item{"a": {0}}).Error(), "[key].Qty must be greater than 0")
	assert.NoError(t, refusalOf[map[string]item](t, nil))
}

// refusalOf is what Validate says of the input, and Run says too.
func refusalOf[In any](t *testing.T, in In) error {
	t.Helper()
	cmd := accept[In]("x")
	err := cmd.Validate(in)
	_, ran := cmd.Run(t.Context(), unusedDB{}, in)
	assert.Equal(t, err, ran)
	return err
}

func TestARuleThatDoesNotFitItsFieldIsAnError(t *testing.T) {
	t.Parallel()
	type odd struct {
		Active bool `validate:"required,min=3"`
	}
	err := accept[odd]("x").Validate(odd{Active: true})
	assert.Contains(t, failure(t, err).Problems[0].Message, "does not fit the type of its field")
}

func TestAMessageShowsTheChoicesAndNotTheKeyOfAMap(t *testing.T) {
	t.Parallel()
	type in struct {
		Kind string            `validate:"oneof=red blue"`
		By   map[string]string `validate:"dive,oneof=red blue"`
	}
	err := accept[in]("paint").Validate(in{By: map[string]string{"ada's": "x"}})
	assert.Equal(t, []pgcmd.Problem{
		{Field: "Kind", Rule: "oneof", Message: "Kind must be one of [red blue]"},
		{Field: "By[key]", Rule: "oneof", Message: "By[key] must be one of [red blue]"},
	}, failure(t, err).Problems)
	_, err = pgcmd.NewCatalog(accept[in]("paint")).Run(t.Context(), unusedDB{}, "paint", []byte(`{"By":{"ada's":"x"}}`))
	assert.Equal(t, "By[key] must be one of [red blue]", failure(t, err).Problems[1].Message)
}
