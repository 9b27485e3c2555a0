package main

import "github.com/pgcmd/pgcmd"

type Receive struct {
	ProductID int64 `validate:"gt=0"`
	Quantity  int   `validate:"gt=0,lte=100000"`
}

var (
	// Run as a batch for a delivery: pgcmd.Batch(receiveStock, pgcmd.Atomic).
	receiveStock = pgcmd.QueryOne[Receive, int]("stock.receive",
		`insert into stock (product_id, available) values (@product_id, @quantity)
		on conflict (product_id) do update set available = stock.available + excluded.available
		returning available`)

	// Takes what an order needs. A CHECK refuses to take more than there is.
	takeStock = pgcmd.Exec[int64]("stock.take",
		`update stock s set available = s.available - l.quantity
		from order_lines l where l.order_id = $1 and l.product_id = s.product_id`).
		With(pgcmd.Options{OnConstraint: map[string]error{"stock_available": ErrOutOfStock}})

	returnStock = pgcmd.Exec[int64]("stock.return",
		`update stock s set available = s.available + l.quantity
		from order_lines l where l.order_id = $1 and l.product_id = s.product_id`)
)
