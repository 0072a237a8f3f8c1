// What the report page needs of Apache ECharts; the rest of it stays out of the page.
import * as echarts from "echarts/core";
import { BarChart, CustomChart, LineChart, ParallelChart, ScatterChart } from "echarts/charts";
import { DataZoomComponent, GridComponent, ParallelComponent, TooltipComponent } from "echarts/components";
import { CanvasRenderer } from "echarts/renderers";

echarts.use([
  BarChart,
  CanvasRenderer,
  CustomChart,
  DataZoomComponent,
  GridComponent,
  LineChart,
  ParallelChart,
  ParallelComponent,
  ScatterChart,
  TooltipComponent,
]);

export const { init } = echarts;
