create type order_status as enum ('placed', 'paid', 'sent', 'cancelled');
create type address as (line text, city text, zip text, country text);
create domain cents as bigint check (value >= 0);

create table customers (
	id         bigint generated always as identity primary key,
	email      text not null constraint customers_email_key unique,
	name       text not null,
	phone      text,
	created_at timestamptz not null default now());

create table addresses (
	id          bigint generated always as identity primary key,
	customer_id bigint not null references customers on delete cascade,
	label       text not null,
	place       address not null,
	constraint addresses_label_key unique (customer_id, label));

create table categories (
	id        bigint generated always as identity primary key,
	parent_id bigint references categories,
	name      text not null constraint categories_name_key unique);

create table products (
	id          bigint generated always as identity primary key,
	category_id bigint not null constraint products_category references categories,
	sku         text not null constraint products_sku_key unique,
	name        text not null,
	price       cents not null,
	tags        text[] not null default '{}',
	details     jsonb not null default '{}',
	created_at  timestamptz not null default now());

create table stock (
	product_id bigint primary key references products on delete cascade,
	available  int not null constraint stock_available check (available >= 0));

create table cart_lines (
	customer_id bigint not null references customers on delete cascade,
	product_id  bigint not null constraint cart_lines_product references products,
	quantity    int not null check (quantity > 0),
	primary key (customer_id, product_id));

create table orders (
	id          bigint generated always as identity primary key,
	customer_id bigint not null references customers,
	ship_to     address not null,
	status      order_status not null default 'placed',
	total       cents not null default 0,
	placed_at   timestamptz not null default now());

create table order_lines (
	order_id   bigint not null references orders on delete cascade,
	product_id bigint not null references products,
	quantity   int not null,
	price      cents not null,
	primary key (order_id, product_id));

create table payments (
	id          bigint generated always as identity primary key,
	order_id    bigint not null references orders,
	amount      cents not null,
	reference   text not null constraint payments_reference_key unique,
	received_at timestamptz not null default now());

create table reviews (
	customer_id bigint not null references customers on delete cascade,
	product_id  bigint not null constraint reviews_product references products on delete cascade,
	rating      smallint not null check (rating between 1 and 5),
	body        text,
	written_at  timestamptz not null default now(),
	primary key (customer_id, product_id));
