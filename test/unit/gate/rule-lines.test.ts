import { describe, expect, it } from 'vitest';
import { ruleLines } from '../../../src/gate/rule-lines.js';

describe('ruleLines', () => {
  it('finds the line on which each rule begins', () => {
    expect(ruleLines('{"rules":[{"a":1},\n{"a":[{}]},\n\n {"a":1}]}')).toEqual([1, 2, 4]);
    expect(ruleLines('{\r\n"extends": "x",\r\n"rules": [\r\n{}\r\n]}')).toEqual([4]);
  });

  it('is not led astray by strings, other keys and values', () => {
    expect(ruleLines('{"a":"rules","b":[{}],\n"rules":[{"x":"\\"}]{[\\\\"},\n{}]}')).toEqual([2, 3]);
    expect(ruleLines('{"x":{"rules":[{}]},\n"rules":[{}]}')).toEqual([2]);
    expect(ruleLines('{"\\u0072ules":[\n{}]}')).toEqual([2]);
  });

  it('follows the last of keys that come twice, as JSON.parse does', () => {
    expect(ruleLines('{"rules":[{},{}],\n"rules":[\n{}]}')).toEqual([3]);
  });

  it('finds nothing where there is nothing', () => {
    expect(ruleLines('{}')).toEqual([]);
    expect(ruleLines('[]')).toEqual([]);
  });
});
