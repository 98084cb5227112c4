import { expect, it } from 'vitest';
import { uniqueNames } from '../../../src/compare/names.js';

it.each<[string, string[], string[], string[]]>([
  ['last parts of paths', ['a/int8', 'b/fp16/', 'c'], [], ['int8', 'fp16', 'c']],
  ['of Windows too', ['C:\\models\\int8', 'D:/x/y'], [], ['int8', 'y']],
  ['numbers where they are the same', ['a/int8', 'b/int8', 'c/INT8'], [], ['int8', 'int8-2', 'INT8-3']],
  ['numbers that are taken', ['a/x', 'x-2', 'b/x'], [], ['x', 'x-2', 'x-3']],
  ['something else for no name', ['.', '..', '/'], ['here', 'reports/there', ''], ['here', 'there', 'model']],
  ['none of the comparison’s own files', ['a/compare.json', 'Compare.HTML'], [], ['compare.json-2', 'Compare.HTML-2']],
])('%s', (_, paths, fallbacks, names) => {
  expect(uniqueNames(paths, fallbacks)).toEqual(names);
});
