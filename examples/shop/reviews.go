package main

import "github.com/pgcmd/pgcmd"

type WriteReview struct {
	CustomerID int64   `validate:"gt=0"`
	ProductID  int64   `validate:"gt=0"`
	Rating     int16   `validate:"gte=1,lte=5"`
	Body       *string `validate:"omitempty,max=2000"`
}

var writeReview = pgcmd.Exec[WriteReview]("reviews.write",
	`insert into reviews (customer_id, product_id, rating, body) values (@customer_id, @product_id, @rating, @body)
	on conflict (customer_id, product_id) do update set rating = excluded.rating, body = excluded.body, written_at = now()`).
	With(pgcmd.Options{OnConstraint: map[string]error{"reviews_product": ErrNoProduct}})
