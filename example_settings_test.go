package pgcmd_test

import (
	"context"
	"fmt"

	"github.com/pgcmd/pgcmd"
)

type tenantKey struct{}

// Row-level security: a policy compares a column with the setting, and no command names the tenant.
func ExampleConfig_settings() {
	server, err := exampleServer()
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	url, err := server.Database(ctx, `create table invoices (tenant text not null default current_setting('app.tenant'), amount int not null)`)
	if err != nil {
		panic(err)
	}
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, Settings: func(ctx context.Context) ([]pgcmd.Setting, error) {
		tenant, ok := ctx.Value(tenantKey{}).(string)
		if !ok {
			return nil, pgcmd.Errorf(pgcmd.CodePermission, "the request has no tenant")
		}
		return []pgcmd.Setting{{Name: "app.tenant", Value: tenant}}, nil
	}})
	if err != nil {
		panic(err)
	}
	defer pool.Close(ctx)

	addInvoice := pgcmd.QueryOne[int, string]("invoices.add", `insert into invoices (amount) values ($1) returning tenant`)
	tenant, err := addInvoice.Run(context.WithValue(ctx, tenantKey{}, "acme"), pool, 100)
	fmt.Println(tenant, err)
	_, err = addInvoice.Run(ctx, pool, 100)
	fmt.Println(err)
	// Output:
	// acme <nil>
	// pgcmd: invoices.add: the request has no tenant [permission, not applied]
}
