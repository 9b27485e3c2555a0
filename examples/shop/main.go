// Shop is the database code of a small shop, to start a service from: ten tables, and 27
// commands with everything that a service needs of them. Verify checks all of them against
// the schema in the test. Run, it lets a customer buy something, on a PostgreSQL that it
// starts for itself.
//
//	go run ./examples/shop
package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

//go:embed schema.sql
var schema string

// config is what the service sets, beside the address of its database.
var config = pgcmd.Config{
	MaxConns:       8,
	AcquireTimeout: 2 * time.Second,
	Types:          []string{"order_status", "address"},
}

// commands are all of them: for Verify, and for a catalog.
var commands = []pgcmd.Definition{
	registerCustomer, findCustomer, changeCustomer, addAddress, listAddresses,
	addCategory, listCategories, importProducts, findProduct, searchProducts,
	receiveStock, takeStock, returnStock,
	putInCart, listCart, clearCart,
	insertOrder, insertLines, placeOrder, findOrder, searchOrders, moveOrder, insertPayment, payOrder, cancelOrder, salesByDay,
	writeReview,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	database, err := pgcmdtest.Start(ctx) // a service has one
	if err != nil {
		return err
	}
	defer database.Close()
	cfg := config
	if cfg.URL, err = database.Database(ctx, schema, pgcmd.OnceSchema); err != nil {
		return err
	}
	pool, err := pgcmd.Connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close(context.WithoutCancel(ctx))
	return buy(ctx, pool, out)
}

// buy lets a customer find something, put it into the cart, and pay for it.
func buy(ctx context.Context, pool *pgcmd.Pool, out io.Writer) error {
	category, err := addCategory.Run(ctx, pool, AddCategory{Name: "Books"})
	if err != nil {
		return err
	}
	if _, err := importProducts.Run(ctx, pool, pgcmd.Rows([]NewProduct{
		{CategoryID: category, SKU: "B-1", Name: "The Art of SQL", Price: 3900, Tags: []string{"sql"}, Details: []byte(`{"pages": 370}`)},
		{CategoryID: category, SKU: "B-2", Name: "SQL for Mice", Price: 900, Tags: []string{"sql", "mice"}, Details: []byte(`{}`)},
	})); err != nil {
		return err
	}
	ada, err := registerCustomer.Run(ctx, pool, Register{Email: "ada@example.org", Name: "Ada"})
	if err != nil {
		return err
	}
	home, err := addAddress.Run(ctx, pool, AddAddress{CustomerID: ada.ID, Label: "home",
		Place: Place{Line: "12 St James's Square", City: "London", Zip: "SW1Y 4JH", Country: "GB"}})
	if err != nil {
		return err
	}
	text, most := "sql", int64(2000)
	found, err := searchProducts.Run(ctx, pool, SearchProducts{Text: &text, MaxPrice: &most, Sort: "cheapest", Limit: 10})
	if err != nil {
		return err
	}
	for _, p := range found {
		fmt.Fprintf(out, "found %s, %s: %d cents\n", p.SKU, p.Name, p.Price)
	}
	if _, err := putInCart.Run(ctx, pool, PutInCart{CustomerID: ada.ID, ProductID: found[0].ID, Quantity: 2}); err != nil {
		return err
	}
	if _, err := receiveStock.Run(ctx, pool, Receive{ProductID: found[0].ID, Quantity: 1}); err != nil {
		return err
	}
	place := PlaceOrder{Key: "a key of the client", CustomerID: ada.ID, AddressID: home}
	_, err = placeOrder.Run(ctx, pool, place)
	fmt.Fprintln(out, "two of one:", err)
	if _, err := receiveStock.Run(ctx, pool, Receive{ProductID: found[0].ID, Quantity: 10}); err != nil {
		return err
	}
	for range 2 { // the client got no answer, and asks again
		order := pgcmd.Try(ctx, pool, placeOrder, place)
		if order.Err != nil {
			return order.Err
		}
		fmt.Fprintf(out, "order %d of %d cents, replayed: %t\n", order.Value.ID, order.Value.Total, order.Replayed)
	}
	orders, err := searchOrders.Run(ctx, pool, SearchOrders{CustomerID: &ada.ID, Statuses: []Status{Placed}, Limit: 10})
	if err != nil {
		return err
	}
	if _, err := payOrder.Run(ctx, pool, Pay{OrderID: orders[0].ID, Amount: orders[0].Total, Reference: "transfer 1"}); err != nil {
		return err
	}
	paid, err := findOrder.Run(ctx, pool, orders[0].ID)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "order %d to %s is %s\n", paid.ID, paid.ShipTo.City, paid.Status)
	_, err = cancelOrder.Run(ctx, pool, paid.ID)
	fmt.Fprintln(out, "cancelled too late:", err)
	return nil
}
