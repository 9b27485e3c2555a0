package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func connect(t *testing.T) *pgcmd.Pool {
	return pgcmdtest.Connect(t, config, schema, pgcmd.OnceSchema)
}

func TestEveryCommandFitsTheSchema(t *testing.T) {
	t.Parallel()
	assert.Len(t, commands, 27)
	pgcmdtest.VerifyOn(t, connect(t), commands...)
}

func TestSomebodyBuysABook(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, buy(t.Context(), connect(t), &out))
	assert.Equal(t, `found B-2, SQL for Mice: 900 cents
two of one: pgcmd: orders.place > stock.take: a product of the cart is out of stock [invalid, not applied, SQLSTATE 23514]
order 2 of 1800 cents, replayed: false
order 2 of 1800 cents, replayed: true
order 2 to London is paid
cancelled too late: pgcmd: orders.cancel: the order is not in a state for this [failed, not applied]
`, out.String())
}

func TestSearchNarrowsByWhatIsSet(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), connect(t)
	games, err := addCategory.Run(ctx, pool, AddCategory{Name: "Games"})
	require.NoError(t, err)
	chess, err := addCategory.Run(ctx, pool, AddCategory{Name: "Chess", ParentID: &games})
	require.NoError(t, err)
	_, err = importProducts.Run(ctx, pool, pgcmd.Rows([]NewProduct{
		{CategoryID: games, SKU: "go", Name: "Go board", Price: 300, Tags: []string{"wood"}, Details: []byte(`{}`)},
		{CategoryID: chess, SKU: "board", Name: "Chess board", Price: 200, Tags: []string{"wood", "big"}, Details: []byte(`{}`)},
		{CategoryID: chess, SKU: "clock", Name: "Chess clock", Price: 400, Tags: []string{}, Details: []byte(`{}`)},
	}))
	require.NoError(t, err)
	board, err := findProduct.Run(ctx, pool, "board")
	require.NoError(t, err)
	_, err = receiveStock.Run(ctx, pool, Receive{ProductID: board.ID, Quantity: 1})
	require.NoError(t, err)
	ada, err := registerCustomer.Run(ctx, pool, Register{Email: "ada@example.org", Name: "Ada"})
	require.NoError(t, err)
	_, err = writeReview.Run(ctx, pool, WriteReview{CustomerID: ada.ID, ProductID: board.ID, Rating: 4})
	require.NoError(t, err)

	text, low, high, yes := "board", int64(250), int64(350), true
	for name, c := range map[string]struct {
		in   SearchProducts
		want []string
	}{
		"nothing":            {SearchProducts{}, []string{"board", "clock", "go"}},
		"a text":             {SearchProducts{Text: &text}, []string{"board", "go"}},
		"a category":         {SearchProducts{CategoryID: &chess}, []string{"board", "clock"}},
		"prices":             {SearchProducts{MinPrice: &low, MaxPrice: &high}, []string{"go"}},
		"tags":               {SearchProducts{Tags: []string{"wood", "big"}}, []string{"board"}},
		"in stock":           {SearchProducts{InStock: &yes}, []string{"board"}},
		"the cheapest first": {SearchProducts{Sort: "cheapest"}, []string{"board", "go", "clock"}},
		"the dearest first":  {SearchProducts{Sort: "dearest"}, []string{"clock", "go", "board"}},
		"the best, of wood":  {SearchProducts{Tags: []string{"wood"}, Sort: "best"}, []string{"board", "go"}},
	} {
		c.in.Limit = 10
		found, err := searchProducts.Run(ctx, pool, c.in)
		require.NoError(t, err, name)
		var skus []string
		for _, p := range found {
			skus = append(skus, p.SKU)
		}
		assert.Equal(t, c.want, skus, name)
	}
	_, err = searchProducts.Run(ctx, pool, SearchProducts{Sort: "price; drop table products", Limit: 10})
	assert.Equal(t, pgcmd.CodeInvalid, pgcmd.CodeOf(err))
}

func TestAnOrderIsCancelledBeforeItIsPaid(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), connect(t)
	none, err := findCustomer.Run(ctx, pool, "nobody@example.org")
	require.NoError(t, err)
	assert.Nil(t, none)

	books, err := addCategory.Run(ctx, pool, AddCategory{Name: "Books"})
	require.NoError(t, err)
	_, err = importProducts.Run(ctx, pool, pgcmd.Rows([]NewProduct{{CategoryID: books, SKU: "B-1", Name: "SQL", Price: 100, Tags: []string{}, Details: []byte(`{}`)}}))
	require.NoError(t, err)
	book, err := findProduct.Run(ctx, pool, "B-1")
	require.NoError(t, err)
	ada, err := registerCustomer.Run(ctx, pool, Register{Email: "ada@example.org", Name: "Ada"})
	require.NoError(t, err)
	_, err = registerCustomer.Run(ctx, pool, Register{Email: "ada@example.org", Name: "Ada"})
	assert.ErrorIs(t, err, ErrEmailTaken)
	phone := "+441234567890"
	ada, err = changeCustomer.Run(ctx, pool, ChangeCustomer{ID: ada.ID, Phone: &phone})
	require.NoError(t, err)
	assert.Equal(t, phone, *ada.Phone)
	home := Place{Line: "12 St James's Square", City: "London", Zip: "SW1Y 4JH", Country: "GB"}
	id, err := addAddress.Run(ctx, pool, AddAddress{CustomerID: ada.ID, Label: "home", Place: home})
	require.NoError(t, err)
	addresses, err := listAddresses.Run(ctx, pool, ada.ID)
	require.NoError(t, err)
	assert.Equal(t, []Address{{ID: id, Label: "home", Place: home}}, addresses)

	_, err = placeOrder.Run(ctx, pool, PlaceOrder{Key: "empty", CustomerID: ada.ID, AddressID: id})
	assert.ErrorIs(t, err, ErrCartEmpty)
	_, err = putInCart.Run(ctx, pool, PutInCart{CustomerID: ada.ID, ProductID: book.ID, Quantity: 2})
	require.NoError(t, err)
	cart, err := listCart.Run(ctx, pool, ada.ID)
	require.NoError(t, err)
	assert.Equal(t, []CartLine{{ProductID: book.ID, Name: "SQL", Quantity: 2, Price: 100}}, cart)
	_, err = placeOrder.Run(ctx, pool, PlaceOrder{Key: "too early", CustomerID: ada.ID, AddressID: id})
	assert.ErrorIs(t, err, ErrOutOfStock)
	assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
	_, err = receiveStock.Run(ctx, pool, Receive{ProductID: book.ID, Quantity: 3})
	require.NoError(t, err)
	order, err := placeOrder.Run(ctx, pool, PlaceOrder{Key: "first", CustomerID: ada.ID, AddressID: id})
	require.NoError(t, err)
	assert.EqualValues(t, 200, order.Total)
	sales, err := salesByDay.Run(ctx, pool, time.Now().Add(-time.Hour))
	require.NoError(t, err)
	require.Len(t, sales, 1)
	assert.EqualValues(t, 200, sales[0].Total)

	_, err = cancelOrder.Run(ctx, pool, order.ID)
	require.NoError(t, err)
	_, err = payOrder.Run(ctx, pool, Pay{OrderID: order.ID, Amount: 200, Reference: "late"})
	assert.ErrorIs(t, err, ErrNotPlaced)
	assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
	left, err := receiveStock.Run(ctx, pool, Receive{ProductID: book.ID, Quantity: 1})
	require.NoError(t, err)
	assert.Equal(t, 4, left, "the stock of the cancelled order is back")
}
