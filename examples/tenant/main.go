// Tenant shows row-level security with Config.Settings, on a PostgreSQL and a PgBouncer that it
// starts for itself: two tenants in one table, a hundred goroutines that read and write for
// both on the same connections, and not one row of the other tenant.
//
//	go run ./examples/tenant
//	go run ./examples/tenant -reads 1000000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// The policy holds for the owner of the table too (force), but never for a superuser or a role with
// BYPASSRLS: the service logs in as another. A setting that is not set is NULL or empty: nullif
// makes it match no row. The default spares every INSERT the column; with check, which is the
// same as using here, refuses another tenant's.
const schema = `
	create table invoices (
		id     bigint primary key generated always as identity,
		tenant text   not null default current_setting('app.tenant'),
		amount int    not null
	);
	create index on invoices (tenant);
	alter table invoices enable row level security;
	alter table invoices force row level security;
	create policy tenant on invoices using (tenant = nullif(current_setting('app.tenant', true), ''));
	create role service login;
	grant select, insert, update on invoices to service`

type Invoice struct {
	Tenant string
	Amount int
}

// No command names the tenant.
var (
	list  = pgcmd.Query[struct{}, Invoice]("invoices.list", `select tenant, amount from invoices`)
	add   = pgcmd.Exec[int]("invoices.add", `insert into invoices (amount) values ($1)`)
	raise = pgcmd.Query[int, Invoice]("invoices.raise", `update invoices set amount = amount + $1 returning tenant, amount`)
	forge = pgcmd.Exec[string]("invoices.forge", `insert into invoices (tenant, amount) values ($1, 0)`)
)

type tenantKey struct{}

// WithTenant is what the middleware of a service calls, once it knows whose request it is.
func WithTenant(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}

var errNoTenant = pgcmd.Errorf(pgcmd.CodePermission, "the context has no tenant")

// settings refuses to run anything for nobody.
func settings(ctx context.Context) ([]pgcmd.Setting, error) {
	tenant, ok := ctx.Value(tenantKey{}).(string)
	if !ok {
		return nil, errNoTenant
	}
	return []pgcmd.Setting{{Name: "app.tenant", Value: tenant}}, nil
}

func main() {
	reads := flag.Int64("reads", 30_000, "how many reads, over three pools")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *reads); err != nil {
		fmt.Fprintln(os.Stderr, "tenant:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, reads int64) error {
	server, err := pgcmdtest.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	owner, err := server.Database(ctx, schema)
	if err != nil {
		return err
	}
	service, err := url.Parse(owner)
	if err != nil {
		return err
	}
	query := service.Query()
	query.Set("user", "service")
	service.RawQuery = query.Encode()
	bouncer, err := pgcmdtest.PgBouncer(ctx, service.String(), pgcmdtest.WithSetting("default_pool_size", "4"))
	if err != nil {
		return err
	}
	defer bouncer.Close()
	for _, way := range []struct {
		name   string
		config pgcmd.Config
	}{
		{"a pool", pgcmd.Config{URL: service.String()}},
		{"a pool with Multiplex", pgcmd.Config{URL: service.String(), Multiplex: 2}},
		{"a pool behind PgBouncer", pgcmd.Config{URL: bouncer.URL(), PgBouncer: true}},
	} {
		way.config.MaxConns, way.config.AcquireTimeout, way.config.Settings = 8, time.Minute, settings
		if err := serve(ctx, out, way.name, way.config, (reads+2)/3); err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
	}
	return nil
}

const (
	callers  = 100
	invoices = 5 // of each tenant
)

var tenants = [2]string{"red", "blue"}

// serve lets the callers read so often on a pool, each for the one tenant and for the other by turns.
func serve(ctx context.Context, out io.Writer, name string, config pgcmd.Config, reads int64) error {
	pool, err := pgcmd.Connect(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close(ctx)
	for _, tenant := range tenants {
		all, err := list.Run(WithTenant(ctx, tenant), pool, struct{}{})
		if err != nil {
			return err
		}
		if _, err := pgcmd.Batch(add, pgcmd.Independent).Run(WithTenant(ctx, tenant), pool, make([]int, invoices-len(all))); err != nil {
			return err
		}
	}
	start := time.Now()
	var seen counts
	var left atomic.Int64
	left.Store(reads)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var callersDone sync.WaitGroup
	for i := range callers {
		callersDone.Go(func() {
			for n := i; left.Add(-1) >= 0; n++ {
				if err := seen.call(ctx, pool, n); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	callersDone.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %d reads by %d goroutines for two tenants, %.0f a second\n", name, seen.reads.Load(), callers, float64(reads)/time.Since(start).Seconds())
	fmt.Fprintf(out, "  %d rows seen, %d of them the other tenant's\n", seen.rows.Load(), seen.foreign.Load())
	fmt.Fprintf(out, "  %d updates of all rows, and %d rows of the other tenant were changed\n", seen.updates.Load(), seen.changed.Load())
	fmt.Fprintf(out, "  %d inserts for the other tenant, refused: %d\n", seen.forgeries.Load(), seen.refused.Load())
	if seen.foreign.Load()+seen.changed.Load() > 0 || seen.forgeries.Load() != seen.refused.Load() || seen.rows.Load() != invoices*seen.reads.Load() {
		return errors.New("tenants are not kept apart")
	}

	if _, err = list.Run(ctx, pool, struct{}{}); !errors.Is(err, errNoTenant) {
		return fmt.Errorf("without a tenant: %w", err)
	}
	fmt.Fprintf(out, "  a context without a tenant: %v\n", err)
	// The methods of pgxpool have no settings, on whichever connection they run.
	rows, err := pool.Query(ctx, `select tenant, amount from invoices`, pgx.QueryExecModeExec)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[Invoice])
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  rows seen by a query of pgx, which has no settings: %d\n", len(all))
	if len(all) > 0 {
		return errors.New("a setting stayed on a connection")
	}
	return nil
}

type counts struct {
	reads, rows, foreign, updates, changed, forgeries, refused atomic.Int64
}

// call reads, and does so in a transaction now and then, or writes as well.
func (c *counts) call(ctx context.Context, pool *pgcmd.Pool, n int) error {
	tenant, other := tenants[n%2], tenants[(n+1)%2]
	ctx = WithTenant(ctx, tenant)
	foreign := func(all []Invoice) (foreign int64) {
		for _, i := range all {
			if i.Tenant != tenant {
				foreign++
			}
		}
		return foreign
	}
	read := list
	if n%20 == 0 {
		read = list.With(pgcmd.Options{InTx: true})
	}
	all, err := read.Run(ctx, pool, struct{}{})
	if err != nil {
		return err
	}
	c.reads.Add(1)
	c.rows.Add(int64(len(all)))
	c.foreign.Add(foreign(all))
	switch n % 1000 {
	case 0, 1:
		all, err := raise.Run(ctx, pool, 1)
		if err != nil {
			return err
		}
		c.updates.Add(1)
		c.changed.Add(foreign(all))
	case 2, 3:
		c.forgeries.Add(1)
		if _, err := forge.Run(ctx, pool, other); pgcmd.CodeOf(err) == pgcmd.CodePermission {
			c.refused.Add(1)
		}
	}
	return nil
}
