package pgcmdmcp_test

import (
	"context"
	"fmt"
	"log"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdmcp"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// A service serves one of its commands; a client, here the SDK's, calls it.
func Example() {
	ctx := context.Background()
	database, err := pgcmdtest.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer database.Close()
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: database.URL()})
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close(ctx)

	type Double struct {
		Number int `json:"number" validate:"gte=0"`
	}
	type Doubled struct {
		Number int `json:"number"`
	}
	double := pgcmd.QueryOne[Double, Doubled]("numbers.double", `select 2 * @number::int as number`).
		With(pgcmd.Options{ReadOnly: true, Description: "Doubles a number."})
	server, err := pgcmdmcp.New(pgcmd.NewCatalog(double, pgcmd.AdHoc), pool, pgcmdmcp.Options{
		Tools: []pgcmdmcp.Tool{{Command: "numbers.double"}}, // and not AdHoc, which New would refuse
	})
	if err != nil {
		log.Fatal(err)
	}
	near, far := mcp.NewInMemoryTransports() // server.ServeStdio(ctx), http.Handle("/mcp", server.Handler())
	ended := make(chan error)
	go func() { ended <- server.Run(ctx, far) }()

	client, err := mcp.NewClient(&mcp.Implementation{Name: "example", Version: "1"}, nil).Connect(ctx, near, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, number := range []int{21, -1} {
		r, err := client.CallTool(ctx, &mcp.CallToolParams{Name: "numbers_double", Arguments: Double{Number: number}})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.Content[0].(*mcp.TextContent).Text)
	}
	client.Close()
	<-ended
	// Output:
	// {"number":42}
	// {"code":"invalid","effect":"not_applied","command":"numbers.double","message":"the input was refused","problems":[{"field":"number","rule":"gte","message":"number must be 0 or greater"}],"attempts":0}
}
