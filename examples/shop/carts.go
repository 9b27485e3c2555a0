package main

import (
	"errors"

	"github.com/pgcmd/pgcmd"
)

var ErrNoProduct = errors.New("there is no such product")

type (
	PutInCart struct {
		CustomerID int64 `validate:"gt=0"`
		ProductID  int64 `validate:"gt=0"`
		Quantity   int   `validate:"gt=0,lte=1000"`
	}
	CartLine struct {
		ProductID int64
		Name      string
		Quantity  int
		Price     int64
	}
)

var (
	putInCart = pgcmd.Exec[PutInCart]("cart.put",
		`insert into cart_lines (customer_id, product_id, quantity) values (@customer_id, @product_id, @quantity)
		on conflict (customer_id, product_id) do update set quantity = excluded.quantity`).
		With(pgcmd.Options{OnConstraint: map[string]error{"cart_lines_product": ErrNoProduct}})

	listCart = pgcmd.Query[int64, CartLine]("cart.list",
		`select l.product_id, p.name, l.quantity, p.price
		from cart_lines l join products p on p.id = l.product_id where l.customer_id = $1 order by p.name`)

	clearCart = pgcmd.Exec[int64]("cart.clear", `delete from cart_lines where customer_id = $1`)
)
