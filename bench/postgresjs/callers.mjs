// Callers that find single rows with postgres.js, for as long as it is told. It prints how many rows they found, and how
// long single rows took, in microseconds.
//
//   node callers.mjs <folder of node_modules> <options as JSON>

import { createRequire } from 'node:module'

const [folder, json] = process.argv.slice(2)
const postgres = createRequire(folder + '/')('postgres')
const { path, port, username, database, connections, callers, milliseconds } = JSON.parse(json)
const sql = postgres({ path, port, username, database, max: connections })

const find = id => sql`select id, email, name, active, created_at from bench_users where id = ${id}`
await Promise.all(Array.from({ length: connections * 20 }, (_, i) => find(300 + i))) // connects, and prepares

const took = []
const start = performance.now()
await Promise.all(Array.from({ length: callers }, async (_, caller) => {
  for (let i = caller; performance.now() - start < milliseconds; i++) {
    const began = performance.now()
    const [user] = await find(300 + i % 700)
    if (user.name !== 'Ada Lovelace') throw new Error('another row: ' + user.name)
    took.push(performance.now() - began)
  }
}))
const seconds = (performance.now() - start) / 1000
took.sort((a, b) => a - b)
const at = q => Math.round(took[Math.floor(q * took.length)] * 1000)
console.log(JSON.stringify({ rows: took.length, seconds, p50: at(0.5), p99: at(0.99) }))
await sql.end()
