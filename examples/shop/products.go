package main

import (
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd"
)

var (
	ErrSKUTaken   = errors.New("there is a product of this SKU already")
	ErrNoCategory = errors.New("there is no such category")
	ErrNameTaken  = errors.New("there is a category of this name already")
)

type (
	Category struct {
		ID    int64
		Name  string
		Depth int
	}
	AddCategory struct {
		Name     string `validate:"required,max=60"`
		ParentID *int64 `validate:"omitempty,gt=0"`
	}

	Product struct {
		ID         int64
		CategoryID int64
		SKU        string
		Name       string
		Price      int64 // in cents
		Tags       []string
		Details    json.RawMessage
	}
	NewProduct struct {
		CategoryID int64           `validate:"gt=0"`
		SKU        string          `validate:"required,max=40"`
		Name       string          `validate:"required,max=200"`
		Price      int64           `validate:"gte=0"`
		Tags       []string        `validate:"required,max=20,dive,max=30"`
		Details    json.RawMessage `validate:"required"`
	}

	// SearchProducts narrows by what is set.
	SearchProducts struct {
		Text       *string  `validate:"omitempty,min=2,max=100"`
		CategoryID *int64   `validate:"omitempty,gt=0"`
		MinPrice   *int64   `validate:"omitempty,gte=0"`
		MaxPrice   *int64   `validate:"omitempty,gte=0"`
		Tags       []string `validate:"max=10"`
		InStock    *bool
		Sort       string
		Limit      int `validate:"gte=1,lte=100"`
		Offset     int `validate:"gte=0"`
	}
	FoundProduct struct {
		ID        int64
		SKU       string
		Name      string
		Price     int64
		Available int
		Rating    *float64 // nil: nobody has written a review
	}
)

var (
	addCategory = pgcmd.QueryOne[AddCategory, int64]("categories.add",
		`insert into categories (name, parent_id) values (@name, @parent_id) returning id`).
		With(pgcmd.Options{OnConstraint: map[string]error{"categories_name_key": ErrNameTaken}})

	listCategories = pgcmd.Query[struct{}, Category]("categories.list",
		`with recursive tree as (
			select id, name, 0 as depth, array[name] as path from categories where parent_id is null
			union all
			select c.id, c.name, t.depth + 1, t.path || c.name from categories c join tree t on c.parent_id = t.id
		)
		select id, name, depth from tree order by path`)

	// All or none of a file.
	importProducts = pgcmd.Copy[NewProduct]("products.import", pgx.Identifier{"products"}).
			With(pgcmd.Options{OnConstraint: map[string]error{"products_sku_key": ErrSKUTaken, "products_category": ErrNoCategory}})

	findProduct = pgcmd.QueryOne[string, *Product]("products.find",
		`select id, category_id, sku, name, price, tags, details from products where sku = $1`)

	searchProducts = pgcmd.Query[SearchProducts, FoundProduct]("products.search",
		`select p.id, p.sku, p.name, p.price, coalesce(s.available, 0) as available, r.rating
		from products p
		left join stock s on s.product_id = p.id
		left join lateral (
			select avg(rating)::float8 as rating from reviews where product_id = p.id
		) r on true
		where true
			/*? and p.name ilike '%' || @text || '%' */
			/*? and p.category_id = @category_id */
			/*? and p.price >= @min_price */
			/*? and p.price <= @max_price */
			/*? and p.tags @> @tags::text[] */
			/*? and (s.available > 0) = @in_stock */
		order by /*= @sort
			cheapest: p.price, p.id;
			dearest: p.price desc, p.id;
			best: r.rating desc nulls last, p.id */ p.name, p.id /*=*/
		limit @limit offset @offset`)
)
