package main

import (
	"context"
	"errors"
	"time"

	"github.com/pgcmd/pgcmd"
)

var (
	ErrCartEmpty  = errors.New("the cart is empty")
	ErrOutOfStock = errors.New("a product of the cart is out of stock")
	ErrPaidBefore = errors.New("this payment was recorded before")
	ErrNotPlaced  = errors.New("the order is not in a state for this")
)

// Status is the enum order_status.
type Status string

const (
	Placed    Status = "placed"
	Paid      Status = "paid"
	Sent      Status = "sent"
	Cancelled Status = "cancelled"
)

type (
	PlaceOrder struct {
		Key        string `validate:"required,max=100"` // the client's, the same for each attempt
		CustomerID int64  `validate:"gt=0"`
		AddressID  int64  `validate:"gt=0"`
	}
	PlacedOrder struct {
		ID    int64
		Total int64
		Lines int64
	}
	Order struct {
		ID         int64
		CustomerID int64
		ShipTo     Place
		Status     Status
		Total      int64
		PlacedAt   time.Time
	}
	SearchOrders struct {
		CustomerID *int64   `validate:"omitempty,gt=0"`
		Statuses   []Status `validate:"omitempty,dive,oneof=placed paid sent cancelled"`
		Since      *time.Time
		Sort       string
		Limit      int `validate:"gte=1,lte=100"`
	}
	Pay struct {
		OrderID   int64  `validate:"gt=0"`
		Amount    int64  `validate:"gt=0"`
		Reference string `validate:"required,max=80"`
	}
	Move struct {
		OrderID  int64  `validate:"gt=0"`
		From, To Status `validate:"required,oneof=placed paid sent cancelled"`
	}
	DaySales struct {
		Day    time.Time
		Orders int64
		Total  int64
	}
)

var (
	insertOrder = pgcmd.QueryOne[PlaceOrder, int64]("orders.insert",
		`insert into orders (customer_id, ship_to)
		select customer_id, place from addresses where id = @address_id and customer_id = @customer_id
		returning id`)

	insertLines = pgcmd.QueryOne[lines, PlacedOrder]("orders.lines",
		`with added as (
			insert into order_lines (order_id, product_id, quantity, price)
			select @order_id, l.product_id, l.quantity, p.price
			from cart_lines l join products p on p.id = l.product_id where l.customer_id = @customer_id
			returning quantity * price as total
		)
		update orders set total = (select sum(total) from added) where id = @order_id and exists (select from added)
		returning id, total, (select count(*) from added) as lines`)

	// A client that got no answer asks again with the same key, and has one order.
	placeOrder = pgcmd.Once(pgcmd.Transaction("orders.place", func(ctx context.Context, tx *pgcmd.Tx, in PlaceOrder) (PlacedOrder, error) {
		id, err := insertOrder.Run(ctx, tx, in)
		if err != nil {
			return PlacedOrder{}, err
		}
		order, err := insertLines.Run(ctx, tx, lines{OrderID: id, CustomerID: in.CustomerID})
		switch {
		case pgcmd.CodeOf(err) == pgcmd.CodeNotFound:
			return PlacedOrder{}, ErrCartEmpty
		case err != nil:
			return PlacedOrder{}, err
		}
		switch taken, err := takeStock.Run(ctx, tx, id); {
		case err != nil:
			return PlacedOrder{}, err
		case taken < order.Lines: // of a product that was never in stock
			return PlacedOrder{}, ErrOutOfStock
		}
		_, err = clearCart.Run(ctx, tx, in.CustomerID)
		return order, err
	}), func(in PlaceOrder) string { return in.Key }).
		With(pgcmd.Options{Timeout: 2 * time.Second, Retry: pgcmd.Retry{Attempts: 3}})

	findOrder = pgcmd.QueryOne[int64, *Order]("orders.find",
		`select id, customer_id, ship_to, status, total, placed_at from orders where id = $1`)

	searchOrders = pgcmd.Query[SearchOrders, Order]("orders.search",
		`select id, customer_id, ship_to, status, total, placed_at from orders
		where true
			/*? and customer_id = @customer_id */
			/*? and status = any(@statuses::order_status[]) */
			/*? and placed_at >= @since */
		order by /*= @sort oldest: placed_at, id; largest: total desc, id */ placed_at desc, id desc /*=*/
		limit @limit`)

	// No row: the order is not in the state that it should come from.
	moveOrder = pgcmd.QueryOne[Move, int64]("orders.move",
		`update orders set status = @to where id = @order_id and status = @from returning id`)

	insertPayment = pgcmd.Exec[Pay]("payments.insert",
		`insert into payments (order_id, amount, reference) values (@order_id, @amount, @reference)`).
		With(pgcmd.Options{OnConstraint: map[string]error{"payments_reference_key": ErrPaidBefore}})

	payOrder = pgcmd.Transaction("orders.pay", func(ctx context.Context, tx *pgcmd.Tx, in Pay) (int64, error) {
		if _, err := insertPayment.Run(ctx, tx, in); err != nil {
			return 0, err
		}
		return move(ctx, tx, in.OrderID, Placed, Paid)
	})

	cancelOrder = pgcmd.Transaction("orders.cancel", func(ctx context.Context, tx *pgcmd.Tx, id int64) (int64, error) {
		if _, err := move(ctx, tx, id, Placed, Cancelled); err != nil {
			return 0, err
		}
		return returnStock.Run(ctx, tx, id)
	})

	salesByDay = pgcmd.Query[time.Time, DaySales]("sales.byDay",
		`select date_trunc('day', placed_at) as day, count(*) as orders, coalesce(sum(total), 0)::bigint as total
		from orders where status <> 'cancelled' and placed_at >= $1 group by 1 order by 1`)
)

type lines struct {
	OrderID    int64
	CustomerID int64
}

// move fails with ErrNotPlaced if the order is in another state.
func move(ctx context.Context, tx *pgcmd.Tx, id int64, from, to Status) (int64, error) {
	moved, err := moveOrder.Run(ctx, tx, Move{OrderID: id, From: from, To: to})
	if pgcmd.CodeOf(err) == pgcmd.CodeNotFound {
		err = ErrNotPlaced
	}
	return moved, err
}
