// Has AsyncAPI's own parser read a document: its JSON schema, and what that can't say, such as references that lead
// somewhere. Usage: node check.mjs FILE
import { readFileSync } from 'node:fs';
import { DiagnosticSeverity, Parser } from '@asyncapi/parser';

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], 'utf8'));
for (const { severity, code, path, message, range } of diagnostics) {
  console.log(`line ${range.start.line + 1}, ${path.join('.')}: ${message} (${DiagnosticSeverity[severity]}, ${code})`);
}
// What is merely recommended, such as a later version of AsyncAPI, is no fault.
if (!document || diagnostics.some(({ severity }) => severity <= DiagnosticSeverity.Warning)) {
  process.exit(1);
}
console.log(`valid: ${document.channels().length} channels, ${document.operations().length} operations`);
