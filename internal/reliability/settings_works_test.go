package reliability_test

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd"
)

// partSettings gives the part that the works below write or read.
var partSettings = []pgcmd.Setting{{Name: "works.other", Value: "7"}, {Name: "works.part", Value: "1"}}

var (
	addSetting  = pgcmd.QueryOne[op, int64]("works.setting", `insert into ops (id, part) values (@id, current_setting('works.part')::int8) returning part`)
	readSetting = pgcmd.QueryOne[op, int64]("works.setting.read", `select current_setting('works.part')::int8 + 0 * @id`).With(pgcmd.Options{ReadOnly: true})
	copyParts   = pgcmd.Copy[part]("works.copy", pgx.Identifier{"ops"})
)

// settingsWorks are works on a pool with Config.Settings: more messages come before what they are.
var settingsWorks = []work{
	{name: "a statement with settings", unit: byExecute, parts: 1, value: 1, settings: partSettings,
		run: of(addSetting)},
	{name: "a read with settings", value: 1, settings: partSettings,
		run: of(readSetting)},
	{name: "a statement with settings in a transaction of its own", unit: byCommit, parts: 1, value: 1, settings: partSettings,
		run: of(addSetting.With(pgcmd.Options{InTx: true}))},
	{name: "three commands with settings under a deadline", unit: byCommit, parts: 3, value: 3, settings: partSettings,
		run: of(three.With(strict))},
	{name: "a function once with settings", unit: byCommit, once: true, parts: 1, value: 1, settings: partSettings,
		run: of(pgcmd.Once(addSetting, key))},
	{name: "an atomic batch with settings", unit: byCommit, parts: 1, value: 1, settings: partSettings,
		run: changedBatch(func(op) *pgcmd.Command[op, int64] { return addSetting }, pgcmd.Atomic)},
	{name: "an isolated batch with settings", unit: byCommit, parts: 1, value: 1, settings: partSettings,
		run: changedBatch(func(op) *pgcmd.Command[op, int64] { return addSetting }, pgcmd.Isolated)},
	{name: "an independent batch with settings", unit: byExecute, parts: 1, value: 1, settings: partSettings,
		run: changedBatch(func(op) *pgcmd.Command[op, int64] { return addSetting }, pgcmd.Independent)},
	{name: "a stream with settings", value: 1, settings: partSettings, single: true, // once a row was yielded
		run: func(ctx context.Context, db pgcmd.DB, in op, o pgcmd.Options) (out pgcmd.Outcome[any]) {
			rows := pgcmd.Query[op, int64]("works.stream", `select current_setting('works.part')::int8 + 0 * @id`).With(pgcmd.Options{ReadOnly: true})
			for n, err := range pgcmd.Stream(ctx, db, rows.With(o), in) {
				out.Value, out.Err = n, err
			}
			return out
		}},
	{name: "a copy with settings", unit: byExecute, parts: 2, value: 2, settings: partSettings, single: true,
		run: func(ctx context.Context, db pgcmd.DB, in op, o pgcmd.Options) pgcmd.Outcome[any] {
			r := pgcmd.Try(ctx, db, copyParts.With(o), func(yield func(part, error) bool) {
				_ = yield(part{in.ID, 1}, nil) && yield(part{in.ID, 2}, nil)
			})
			return pgcmd.Outcome[any]{Value: r.Value, Err: r.Err, Attempts: r.Attempts}
		}},
	{name: "a setting that is refused", unit: byExecute, fails: isRefusedSetting, settings: refusedSettings,
		run: of(addSetting)},
	{name: "a setting that is refused, in a transaction of its own", fails: isRefusedSetting, settings: refusedSettings,
		run: of(addSetting.With(pgcmd.Options{InTx: true}))},
	{name: "a setting that is refused, of an independent batch", unit: byExecute, fails: isRefusedSetting, settings: refusedSettings,
		run: changedBatch(func(op) *pgcmd.Command[op, int64] { return addSetting }, pgcmd.Independent)},
}

// settingsLoads are some of the loads, with settings.
func settingsLoads() (all []load) {
	for _, l := range loads() {
		switch l.name {
		case "independent pipeline, bad item -1", "independent pipeline, bad item 2", "independent batch of ops.add, bad item 2", "isolated batch of ops.pick, bad item 2":
			l.name, l.settings = l.name+", with settings", partSettings
			all = append(all, l)
		}
	}
	return all
}

var refusedSettings = []pgcmd.Setting{{Name: "works.part", Value: "1"}, {Name: "unknown", Value: "x"}}

func isRefusedSetting(err error) bool {
	e, ok := errors.AsType[*pgcmd.Error](err)
	return ok && e.SQLState == "42704" && e.Effect == pgcmd.NotApplied
}
