// Words of the page of manual entries: [Chinese, English].

import { language, t as pageWord } from "../i18n.js";

const words = {
  title: ["人工台账", "Ledger"], back: ["返回监测", "Back to monitoring"], other_language: ["English", "中文"],
  book: ["登记", "Book an entry"], correct_title: ["更正", "Correct an entry"], correcting: ["更正第 {id} 条：原记录保留，须说明原因。", "Corrects entry {id}: it stays in the record; say why."],
  kind: ["类别", "Kind"], enterprise: ["企业", "Enterprise"], counterparty: ["对方企业", "The other enterprise"], item: ["品目", "Item"], carrier: ["能源品种", "Carrier"],
  action: ["去向", "Action"], first_day: ["起始日", "First day"], last_day: ["截止日", "Last day"], value: ["数量", "Amount"], unit: ["单位", "Unit"],
  status: ["状态", "State"], preliminary: ["初步", "preliminary"], final: ["确定", "final"], evidence: ["凭证编号", "Evidence: number or place"],
  more_documents: ["附件", "Documents"], documents: ["附件（pdf、png、jpeg、xlsx、docx、csv，每份不超过 10 MB）", "Documents (pdf, png, jpeg, xlsx, docx, csv; 10 MB each)"],
  note: ["备注", "Note"], reason: ["更正原因", "Why it is corrected"], send: ["提交", "Book"], cancel: ["取消", "Cancel"], none: ["—", "—"], whole_base: ["园区", "the base"],
  booked: ["已登记第 {id} 条", "Booked as entry {id}"], uploading: ["上传中…", "uploading…"], uploaded: ["已保存", "kept"],
  entries: ["台账记录", "Entries"], audit: ["变更记录", "Audit"], all_kinds: ["全部类别", "all kinds"], period: ["期间", "Days"], by: ["登记", "Booked"],
  correct: ["更正", "Correct"], finalise_about: ["设为确定后，报告按此数编制；其后的更改须另行更正并说明原因。", "Reports go by a final figure; a later change is a correction with its reason."],
  may_not: ["此令牌只能查看台账，不能登记。", "This token may read the ledger, not book in it."], no_bases: ["该令牌没有可查看的基地。", "This token may not see any base."], finalise: ["设为确定", "Make final"], finalise_why: ["核对无误", "checked"], more: ["更早的记录", "Older"], empty: ["没有记录", "No entries"],
  step: ["操作", "Step"], "step.booked": ["登记", "booked"], "step.corrected": ["更正", "corrected"], "step.finalised": ["确定", "made final"],
  what: ["内容", "What"], changes: ["变更", "Changes"], why: ["原因", "Why"], who: ["何人何时", "Who and when"],
  sheet: ["批量登记（xlsx）", "Many at once (xlsx)"], sheet_about: ["下载模板，在 entries 表中每行填一条，检查后一次登记；有错误时一条也不登记，并给出单元格地址。",
    "Take the template, fill a row an entry in the sheet `entries`, check, then book all at once. With a mistake nothing is booked, and its cell is named."],
  template: ["下载模板", "Template"], check: ["检查", "Check"], import: ["登记全部", "Book all"], choose: ["选择文件", "A filled template"],
  checked: ["{n} 条，无错误", "{n} entries, no mistakes"], imported: ["已登记 {n} 条", "{n} entries booked"], wrong: ["有 {n} 处错误，一条也没有登记：请按单元格地址修改后再检查。", "{n} mistakes, nothing was booked: mend the cells named, then check again."], file_changed: ["文件在选择后已更改或移动：请重新选择。", "The file was changed or moved since it was chosen: choose it again."], sending: ["正在发送…", "sending…"], no_answer: ["服务器无响应", "the server does not answer"],
};

/** A word in the page's language, places filled; what is not here is a word of the monitoring page. */
export function t(key, places = {}) {
  if (!words[key]) return pageWord(key, places);
  const text = words[key][language() === "zh" ? 0 : 1];
  return text.replace(/\{(\w+)\}/g, (_, name) => places[name] ?? "");
}

export const nameOf = (row) => (row ? (language() === "zh" ? row.zh ?? row.name_zh : row.en ?? row.name_en) : "");
