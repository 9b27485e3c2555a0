package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-playground/locales/en"
	ut "github.com/go-playground/universal-translator"
	"github.com/go-playground/validator/v10"
	translations "github.com/go-playground/validator/v10/translations/en"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd"
)

// Hand is the store as an expert writes it with pgx alone, for speed: the reference. The targets of a row are made once,
// outside of the loop.
type Hand struct{ DB pgcmd.DB }

func (s Hand) Find(ctx context.Context, id int64) (u User, err error) {
	err = s.DB.QueryRow(ctx, FindSQL, id).Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt)
	return u, err
}

func (s Hand) List(ctx context.Context, n int64) ([]User, error) {
	rows, err := s.DB.Query(ctx, ListSQL, n)
	if err != nil {
		return nil, err
	}
	var users []User
	var u User
	_, err = pgx.ForEachRow(rows, []any{&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt}, func() error {
		users = append(users, u)
		return nil
	})
	return users, err
}

func (s Hand) Search(ctx context.Context, in Search) (u User, err error) {
	err = s.DB.QueryRow(ctx, SearchSQL, in.Email, in.Name, in.Active, in.MinID).Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt)
	return u, err
}

func (s Hand) Branches(ctx context.Context, in Filter) ([]Branch, error) {
	rows, err := s.DB.Query(ctx, BranchesSQL, in.FromAccount, in.ToAccount, in.MinBalance, in.MinAccounts, in.Top)
	if err != nil {
		return nil, err
	}
	var branches []Branch
	var b Branch
	_, err = pgx.ForEachRow(rows, []any{&b.BID, &b.Tellers, &b.Accounts, &b.Total, &b.Average, &b.Share}, func() error {
		branches = append(branches, b)
		return nil
	})
	return branches, err
}

func (s Hand) Transfer(ctx context.Context, in Transfer) error {
	return pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, DebitSQL, in.Amount, in.Account); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, CreditSQL, in.Amount, in.Teller); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, NoteSQL, in.Teller, in.Branch, in.Account, in.Amount)
		return err
	})
}

func (s Hand) Import(ctx context.Context, items []Item) error {
	batch := &pgx.Batch{}
	for _, in := range items {
		batch.Queue(ImportSQL, in.ID, in.Name, in.Qty)
	}
	return s.DB.SendBatch(ctx, batch).Close()
}

func (s Hand) Add(ctx context.Context, u User) error {
	_, err := s.DB.Exec(ctx, AddSQL, u.ID, u.Email, u.Name, u.Active, u.CreatedAt)
	return Taken(err)
}

// Taken is how err is translated by hand.
func Taken(err error) error {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "23505" && refused.ConstraintName == EmailKey {
		return ErrTaken
	}
	return err
}

// Loop is the store of a person who knows no batches.
type Loop struct{ Hand }

func (s Loop) Import(ctx context.Context, items []Item) error {
	for _, in := range items {
		if _, err := s.DB.Exec(ctx, ImportSQL, in.ID, in.Name, in.Qty); err != nil {
			return err
		}
	}
	return nil
}

// Helpers is the store with what pgx offers to spare code: RowToStructByName and NamedArgs.
type Helpers struct{ Hand }

// NamedSearchSQL is SearchSQL with pgx's names.
const NamedSearchSQL = `select id, email, name, active, created_at from bench_users where email = @email and name = @name and active = @active and id >= @min_id`

func (s Helpers) Find(ctx context.Context, id int64) (User, error) {
	rows, _ := s.DB.Query(ctx, FindSQL, id)
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[User])
}

func (s Helpers) List(ctx context.Context, n int64) ([]User, error) {
	rows, _ := s.DB.Query(ctx, ListSQL, n)
	return pgx.CollectRows(rows, pgx.RowToStructByName[User])
}

func (s Helpers) Search(ctx context.Context, in Search) (u User, err error) {
	args := pgx.NamedArgs{"email": in.Email, "name": in.Name, "active": in.Active, "min_id": in.MinID}
	err = s.DB.QueryRow(ctx, NamedSearchSQL, args).Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt)
	return u, err
}

// StructArgs is the store with pgx's other way to name arguments.
type StructArgs struct{ Helpers }

func (s StructArgs) Search(ctx context.Context, in Search) (u User, err error) {
	err = s.DB.QueryRow(ctx, NamedSearchSQL, pgx.StructArgs(in)).Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt)
	return u, err
}

// A Signup is an input with three rules.
type Signup struct {
	Email    string `validate:"required,email"`
	Age      int    `validate:"gte=18"`
	Password string `validate:"min=12"`
}

// Refused breaks all three.
var Refused = Signup{Email: "ada", Age: 7, Password: "short"}

var (
	validate = validator.New(validator.WithRequiredStructEnabled())
	english  = func() ut.Translator {
		language := en.New()
		translator, _ := ut.New(language, language).GetTranslator("en")
		if err := translations.RegisterDefaultTranslations(validate, translator); err != nil {
			panic(err)
		}
		return translator
	}()
)

// A Problem is what an answer says of a field.
type Problem struct{ Field, Rule, Message string }

// Problems are those of an input.
type Problems []Problem

func (p Problems) Error() string { return fmt.Sprintf("the input was refused for %d reasons", len(p)) }

// CheckByHand is what a handler does with an input when it has the validator, to answer with a sentence for each field.
func CheckByHand(in Signup) error {
	err := validate.Struct(in)
	if err == nil {
		return nil
	}
	fields, ok := errors.AsType[validator.ValidationErrors](err)
	if !ok {
		return err
	}
	problems := make(Problems, len(fields))
	for i, f := range fields {
		problems[i] = Problem{f.StructNamespace(), f.Tag(), f.Translate(english)}
	}
	return problems
}

// An Answer is an error of the database's as a handler would answer it, with what a client can use: no detail, which
// holds values.
type Answer struct {
	Code       string `json:"code"`
	Effect     string `json:"effect"`
	Command    string `json:"command,omitempty"`
	Message    string `json:"message"`
	SQLState   string `json:"sqlstate,omitempty"`
	Constraint string `json:"constraint,omitempty"`
	Table      string `json:"table,omitempty"`
	Column     string `json:"column,omitempty"`
	Attempts   int    `json:"attempts"`
}

// AnswerTo makes the answer to an error.
func AnswerTo(err error) Answer {
	answer := Answer{Code: "failed", Effect: "unknown", Command: "bench.add", Message: "the statement failed", Attempts: 1}
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		answer.Code, answer.Effect, answer.Message = "conflict", "not_applied", ErrTaken.Error()
		answer.SQLState, answer.Constraint, answer.Table, answer.Column = refused.Code, refused.ConstraintName, refused.TableName, refused.ColumnName
	}
	return answer
}

// An AnswerError is an error that any handler can encode: encoding/json checks what its MarshalJSON returns, byte by byte.
type AnswerError struct{ Answer Answer }

func (e *AnswerError) Error() string                { return e.Answer.Message }
func (e *AnswerError) MarshalJSON() ([]byte, error) { return json.Marshal(e.Answer) }
