// Runs one client for Node: `node driver.mjs CLIENT FOLDER-OF-MODULES ADDRESS`. Each line of standard
// input is a call, `{"call": name, "arguments": {…}}`; each line of standard output its outcome,
// `{"result": …}` or `{"failed": {"code": Kafka's error number or null, "text": …}}`.
// Bytes are base64, so that every key, value and header can be anything.

import { createRequire } from 'node:module'
import path from 'node:path'
import readline from 'node:readline'

const [client, modules, address] = process.argv.slice(2)
// Packages are installed under `target`, not beside this file.
const load = createRequire(path.join(modules, 'driver.cjs'))
const { connect } = await import(`./${client}.mjs`)
const { calls, failure } = await connect(address, load)

// Neither a failure in the background nor a library's talk may end the process or mix into its answers.
console.log = console.info = console.error
process.on('unhandledRejection', error => console.error('unhandled:', error))

for await (const line of readline.createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line)
  let outcome
  try {
    outcome = { result: (await calls[asked.call](asked.arguments)) ?? null }
  } catch (error) {
    outcome = { failed: failure(error) }
  }
  process.stdout.write(JSON.stringify(outcome) + '\n')
}
process.exit(0)
