-- The people of the shop.

-- name: FindPerson :one
-- FindPerson finds somebody by the address, as it was typed.
select * from people where email = @email;

-- name: GetPerson :one
select * from people where id = $1;

-- name: ListPeople :many
SELECT *
FROM people
WHERE mood = ANY(sqlc.arg(moods)::mood[])
    AND (sqlc.narg('nick')::text IS NULL OR nick = sqlc.narg('nick')) -- only these
ORDER BY id
LIMIT $1 OFFSET $2;

-- name: NamesOfPeople :many
select id, "fullName" from people where id in (sqlc.slice('ids'));

-- name: PeopleBut :many
select id, "fullName" from people where id not in (sqlc.slice(ids));

-- name: CountPeople :one
select count(*) from people;

-- name: NickOfPerson :one
select nick from people where id = $1;

-- Below a comment that is directly above the annotation,
/* and one
 * of several lines */
-- name: CreatePerson :one
insert into people (email, "fullName", nick, mood, moods, home, tags, settings, born)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
returning *;

-- name: RenamePerson :execrows
update people set "fullName" = $2, nick = $3 where id = $1;

-- name: ChangeBalance :one
update people set balance = balance + @by where id = @id returning balance;

-- name: DeletePerson :exec
delete from people where id = $1;

-- name: DeletePeopleWithTag :execresult
delete from people where @tag::text = any(tags);

-- name: EachPerson :iter
select id, email, mood from people where created_at between $1 and $2;

-- name: CopyPeople :copyfrom
insert into people (email, "fullName", nick, tags) values ($1, $2, $3, $4);

-- name: AddressesOfPeople :many
select id, home from people where home is not null and "fullName" ilike '%' || @part::text || '%';

-- name: SetTags :exec
update people set tags = $1;

-- name: SetName :exec
update people set "fullName" = sqlc.narg(name), nick = coalesce(sqlc.narg(nick), nick) where id = @id;

-- name: NickEverybody :execrows
update people set nick = $1;

-- name: SearchPeople :many
select * from people
where true /*? and email like @email */ /*? and (nick = @nick or mood = any(@moods::mood[])) */ and id > @after
order by /*= @sort newest: created_at desc, id desc; name: "fullName" */ id /*=*/
limit $1 /*? offset @offset */;
